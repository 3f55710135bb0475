// SPDX-License-Identifier: Apache-2.0

// penstock-cni holds a pod until the agent of this node has captured it, so that the first packet
// of the pod is policed. It stands last in a chain of CNI plugins: the ones before it have made the
// pod's network, and their result is passed on as it is.
//
// Source: CNI specification 1.1.0, sections 2 to 5. Only the standard library is used: the program
// is started for each pod, and must be there in milliseconds.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Version of the specification that is spoken where nobody asks for an older one.
const newestVersion = "1.1.0"

var supportedVersions = []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", newestVersion}

// Error codes of the specification, section "Error".
const (
	codeVersion      = 1
	codeEnvironment  = 4
	codeIO           = 5
	codeDecode       = 6
	codeConfig       = 7
	codeTryAgain     = 11
	codeNotAvailable = 50
)

// Config is what the network configuration says, with what the runtime adds to it.
type Config struct {
	CNIVersion string `json:"cniVersion"`
	// Socket of the agent's API.
	Socket string `json:"socket"`
	// Seconds for a pod to be captured.
	Timeout float64 `json:"timeout"`
	// Namespaces whose pods come up without an agent; they are not policed by any.
	UnpolicedNamespaces []string        `json:"unpolicedNamespaces"`
	PrevResult          json.RawMessage `json:"prevResult"`
}

// Failure is an error as the specification wants it on standard output.
type Failure struct {
	CNIVersion string `json:"cniVersion"`
	Code       int    `json:"code"`
	Message    string `json:"msg"`
	Details    string `json:"details,omitempty"`
}

func (f *Failure) Error() string { return f.Message }

func failure(code int, message string, details ...any) *Failure {
	return &Failure{Code: code, Message: message, Details: fmt.Sprint(details...)}
}

// Pod is what the runtime says about whom it is; see Pod in the agent's API.
type Pod struct {
	UID       string   `json:"uid"`
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Netns     string   `json:"netns"`
	Addresses []string `json:"addresses"`
}

func main() {
	output, err := run(os.Getenv("CNI_COMMAND"), os.Stdin)
	if err != nil {
		output, _ = json.Marshal(err)
	}
	os.Stdout.Write(output)
	if err != nil {
		os.Exit(1)
	}
}

// run does what the runtime asks for and returns what belongs on standard output.
func run(command string, input io.Reader) ([]byte, *Failure) {
	text, err := io.ReadAll(input)
	if err != nil {
		return nil, failure(codeIO, "standard input cannot be read", err)
	}
	config := Config{CNIVersion: newestVersion}
	if err := json.Unmarshal(text, &config); err != nil && command != "VERSION" {
		return nil, failure(codeDecode, "the configuration is no JSON object", err)
	}
	if command == "VERSION" {
		return version(config)
	}
	output, failed := dispatch(command, config)
	if failed != nil {
		failed.CNIVersion = config.CNIVersion
	}
	return output, failed
}

func dispatch(command string, config Config) ([]byte, *Failure) {
	if !slices.Contains(supportedVersions, config.CNIVersion) {
		return nil, failure(codeVersion, "cniVersion "+config.CNIVersion+" is not supported",
			"supported are ", strings.Join(supportedVersions, ", "))
	}
	if config.Socket == "" {
		return nil, failure(codeConfig, "the configuration has no socket",
			"it is that of the agent's API, as /run/penstock/agent.sock")
	}
	agent := newAgent(config)
	switch command {
	case "ADD":
		return add(config, agent)
	case "DEL":
		return nil, del(agent)
	case "CHECK":
		return nil, check(config, agent)
	case "STATUS":
		return nil, status(agent)
	case "GC": // the agent looks itself which of its pods are gone
		return nil, nil
	}
	return nil, failure(codeEnvironment, "CNI_COMMAND is not known", command)
}

func version(config Config) ([]byte, *Failure) {
	spoken := config.CNIVersion
	if !slices.Contains(supportedVersions, spoken) {
		spoken = newestVersion
	}
	output, _ := json.Marshal(map[string]any{
		"cniVersion": spoken, "supportedVersions": supportedVersions,
	})
	return output, nil
}

// add lets the agent capture the pod and passes the result of the plugins before on.
func add(config Config, agent *agent) ([]byte, *Failure) {
	if len(config.PrevResult) == 0 {
		return nil, failure(codeConfig, "there is no prevResult",
			"penstock-cni makes no network; it stands behind the plugin that does")
	}
	pod, failed := podFromEnvironment()
	if failed != nil {
		return nil, failed
	}
	if pod.Addresses, failed = addresses(config.PrevResult); failed != nil {
		return nil, failed
	}
	err := agent.capture(pod, !isUnpoliced(config, pod))
	if err != nil && !isUnpoliced(config, pod) {
		return nil, failure(codeTryAgain,
			"pod "+pod.Namespace+"/"+pod.Name+" is not captured by Penstock", err)
	}
	return config.PrevResult, nil
}

// del never fails: without an agent nothing of the pod is left that the agent does not find later,
// and a failure would keep the pod from ending.
func del(agent *agent) *Failure {
	if pod, failed := podFromEnvironment(); failed == nil {
		agent.release(pod)
	}
	return nil
}

func check(config Config, agent *agent) *Failure {
	pod, failed := podFromEnvironment()
	if failed != nil {
		return failed
	}
	if err := agent.check(pod.UID); err != nil && !isUnpoliced(config, pod) {
		return failure(codeTryAgain, "pod "+pod.Namespace+"/"+pod.Name+" is not captured", err)
	}
	return nil
}

// status waits while an agent is replaced: a runtime that hears that it cannot start pods takes the
// whole node out of service.
func status(agent *agent) *Failure {
	if err := agent.alive(); err != nil {
		return failure(codeNotAvailable, "the agent of Penstock does not answer on this node", err)
	}
	return nil
}

// podFromEnvironment reads what Kubernetes' runtimes say in CNI_ARGS.
func podFromEnvironment() (Pod, *Failure) {
	args := map[string]string{}
	for _, pair := range strings.Split(os.Getenv("CNI_ARGS"), ";") {
		if key, value, found := strings.Cut(pair, "="); found {
			args[key] = value
		}
	}
	pod := Pod{
		UID:       args["K8S_POD_UID"],
		Namespace: args["K8S_POD_NAMESPACE"],
		Name:      args["K8S_POD_NAME"],
		Netns:     os.Getenv("CNI_NETNS"),
	}
	if pod.UID == "" {
		return pod, failure(codeEnvironment, "CNI_ARGS has no K8S_POD_UID",
			"containerd 1.6 and CRI-O 1.24 give it; older ones are not supported")
	}
	// /var/run is a link on the node and may be none where the agent looks
	if folder, err := filepath.EvalSymlinks(filepath.Dir(pod.Netns)); pod.Netns != "" && err == nil {
		pod.Netns = filepath.Join(folder, filepath.Base(pod.Netns))
	}
	return pod, nil
}

// addresses returns the addresses in a result, of any version of the specification.
func addresses(result json.RawMessage) ([]string, *Failure) {
	var read struct {
		IPs []struct {
			Address string `json:"address"`
		} `json:"ips"`
	}
	if err := json.Unmarshal(result, &read); err != nil {
		return nil, failure(codeDecode, "prevResult cannot be read", err)
	}
	found := []string{}
	for _, ip := range read.IPs {
		address, _, _ := strings.Cut(ip.Address, "/")
		found = append(found, address)
	}
	return found, nil
}

func isUnpoliced(config Config, pod Pod) bool {
	return slices.Contains(config.UnpolicedNamespaces, pod.Namespace)
}

func seconds(value float64) time.Duration {
	return time.Duration(value * float64(time.Second))
}
