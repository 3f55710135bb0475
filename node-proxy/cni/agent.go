// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	defaultTimeout  = 25 * time.Second
	releasePatience = 10 * time.Second
	checkPatience   = 5 * time.Second
	statusPatience  = 10 * time.Second
	// Between attempts to reach an agent that is not there.
	pause         = 100 * time.Millisecond
	longestAnswer = 64 << 10
)

// agent is the API of this node's agent, on a unix socket.
type agent struct {
	client  http.Client
	timeout time.Duration
	socket  string
}

func newAgent(config Config) *agent {
	timeout := defaultTimeout
	if config.Timeout > 0 {
		timeout = seconds(config.Timeout)
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", config.Socket)
	}
	return &agent{
		client:  http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}},
		timeout: timeout,
		socket:  config.Socket,
	}
}

// capture returns when nothing of the pod passes unpoliced. An agent that is away is waited for only
// if *patient*.
func (a *agent) capture(pod Pod, patient bool) error {
	body, err := json.Marshal(pod)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(a.timeout)
	for {
		left := time.Until(deadline)
		path := podPath(pod.UID) + "?timeout=" + strconv.FormatFloat(left.Seconds(), 'f', 3, 64)
		err := a.call(http.MethodPut, path, body, left+time.Second)
		if err == nil || !patient || !isAway(err) || time.Until(deadline) < pause {
			return err
		}
		time.Sleep(pause)
	}
}

// release lets a pod go that ended; a newer sandbox of the same pod has another namespace and stays.
func (a *agent) release(pod Pod) {
	path := podPath(pod.UID) + "?netns=" + url.QueryEscape(pod.Netns)
	_ = a.call(http.MethodDelete, path, nil, releasePatience)
}

func (a *agent) check(uid string) error {
	return a.call(http.MethodGet, podPath(uid), nil, checkPatience)
}

func (a *agent) alive() error {
	deadline := time.Now().Add(min(a.timeout, statusPatience))
	for {
		err := a.call(http.MethodGet, "/healthz", nil, checkPatience)
		if err == nil || time.Until(deadline) < pause {
			return err
		}
		time.Sleep(pause)
	}
}

func podPath(uid string) string {
	return "/v1/pods/" + url.PathEscape(uid)
}

// call makes one request; an answer other than 200 is an error with the agent's own words.
func (a *agent) call(method, path string, body []byte, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(
		ctx, method, "http://agent"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	answer, err := a.client.Do(request)
	if err != nil {
		return fmt.Errorf("no answer at %s; look at the pod penstock-agent on this node: %w",
			a.socket, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, longestAnswer))
	if err != nil {
		return err
	}
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	var said struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(text, &said) == nil && said.Error != "" {
		return errors.New(said.Error)
	}
	return fmt.Errorf("%s: %s", answer.Status, strings.TrimSpace(string(text)))
}

// isAway tells whether no agent listens, which a restart mends.
func isAway(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF)
}
