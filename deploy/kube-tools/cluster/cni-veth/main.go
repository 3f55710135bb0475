// Command cni-veth is the network of the test cluster: one routed veth pair (/32) for each pod.
//
// Configuration: {"cniVersion": "1.0.0", "name": "pods", "type": "cni-veth", "subnet": "10.244.1.0/24",
// "source": "172.31.0.11", "state": "/run/cni-veth"}. `source` is what the node itself calls pods from.
// Source: CNI specification 1.0.0; 1.1.0 for STATUS and GC.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// gateway is the address that every pod has its default route to; the node's end of each veth has it.
const gateway = "169.254.1.1"

// The codes of errors are those of the specification, or 100 and more for our own.
const (
	codeInvalidEnvironment = 4
	codeDecoding           = 6
	codeNoAddress          = 100
	codeNetwork            = 101
)

type config struct {
	CNIVersion string       `json:"cniVersion"`
	Subnet     netip.Prefix `json:"subnet"`
	Source     netip.Addr   `json:"source"`
	State      string       `json:"state"`
}

type failure struct {
	code int
	err  error
}

func (f failure) Error() string { return f.err.Error() }

func main() {
	if err := run(os.Getenv("CNI_COMMAND"), os.Stdin, os.Stdout); err != nil {
		code := codeNetwork
		if known := (failure{}); errors.As(err, &known) {
			code = known.code
		}
		_ = json.NewEncoder(os.Stdout).Encode(map[string]any{
			"cniVersion": "1.0.0", "code": code, "msg": err.Error(),
		})
		os.Exit(1)
	}
}

func run(command string, input io.Reader, output io.Writer) error {
	switch command {
	case "VERSION":
		return json.NewEncoder(output).Encode(map[string]any{
			"cniVersion": "1.0.0", "supportedVersions": []string{"0.4.0", "1.0.0", "1.1.0"},
		})
	case "STATUS", "GC":
		return nil
	}
	var conf config
	if err := json.NewDecoder(input).Decode(&conf); err != nil {
		return failure{codeDecoding, fmt.Errorf("the configuration is not understood: %w", err)}
	}
	container := os.Getenv("CNI_CONTAINERID")
	if container == "" || conf.State == "" || !conf.Subnet.IsValid() {
		return failure{codeInvalidEnvironment, errors.New("CNI_CONTAINERID, subnet and state are needed")}
	}
	switch command {
	case "ADD":
		return add(conf, container, output)
	case "CHECK":
		return ip("link show "+hostLink(container)+"\n", "ip", "-batch", "-")
	case "DEL":
		return del(conf, container)
	}
	return failure{codeInvalidEnvironment, fmt.Errorf("CNI_COMMAND %q is unknown", command)}
}

func add(conf config, container string, output io.Writer) error {
	netns, name := os.Getenv("CNI_NETNS"), os.Getenv("CNI_IFNAME")
	if netns == "" || name == "" {
		return failure{codeInvalidEnvironment, errors.New("CNI_NETNS and CNI_IFNAME are needed")}
	}
	address, err := take(conf, container)
	if err != nil {
		return err
	}
	host := hostLink(container)
	if err := connect(conf, address, host, netns, name); err != nil {
		return errors.Join(err, del(conf, container))
	}
	return json.NewEncoder(output).Encode(map[string]any{
		"cniVersion": conf.CNIVersion,
		"interfaces": []map[string]string{{"name": host}, {"name": name, "sandbox": netns}},
		"ips":        []map[string]any{{"interface": 1, "address": address.String() + "/32", "gateway": gateway}},
		"routes":     []map[string]string{{"dst": "0.0.0.0/0", "gw": gateway}},
	})
}

func connect(conf config, address netip.Addr, host, netns, name string) error {
	outside := fmt.Sprintf(`link add %[1]s type veth peer name ceth netns %[2]s
address add %[3]s/32 dev %[1]s
link set %[1]s up
route add %[4]s/32 dev %[1]s src %[5]s
`, host, netns, gateway, address, conf.Source)
	inside := fmt.Sprintf(`link set ceth name %[1]s
address add %[2]s/32 dev %[1]s
link set lo up
link set %[1]s up
route add %[3]s dev %[1]s scope link
route add default via %[3]s
`, name, address, gateway)
	if err := ip(outside, "ip", "-batch", "-"); err != nil {
		return err
	}
	return ip(inside, "nsenter", "--net="+netns, "ip", "-batch", "-")
}

// del succeeds when repeated, in parallel, and with nothing left; else pods would end never.
func del(conf config, container string) error {
	_ = ip("link delete "+hostLink(container)+"\n", "ip", "-batch", "-")
	taken, err := filepath.Glob(filepath.Join(conf.State, "*.*.*.*"))
	if err != nil {
		return err
	}
	for _, path := range taken {
		if owner, err := os.ReadFile(path); err == nil && string(owner) == container {
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// take returns a free address of the subnet and notes, in a file of its name, whose it is.
//
// An address is not given out again before all others were: what knows the last pod of an address
// gets time to forget it.
func take(conf config, container string) (netip.Addr, error) {
	if err := os.MkdirAll(conf.State, 0o700); err != nil {
		return netip.Addr{}, err
	}
	lock, err := os.OpenFile(filepath.Join(conf.State, "last"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return netip.Addr{}, err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return netip.Addr{}, err
	}
	said, _ := io.ReadAll(lock)
	address, err := netip.ParseAddr(strings.TrimSpace(string(said)))
	if err != nil {
		address = conf.Subnet.Masked().Addr()
	}
	for range 1 << (conf.Subnet.Addr().BitLen() - conf.Subnet.Bits()) {
		address = following(conf.Subnet, address)
		file, err := os.OpenFile(filepath.Join(conf.State, address.String()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, os.ErrExist) {
			continue
		} else if err != nil {
			return netip.Addr{}, err
		}
		defer file.Close()
		if _, err := file.WriteString(container); err != nil {
			return netip.Addr{}, err
		}
		if err := lock.Truncate(0); err != nil {
			return netip.Addr{}, err
		}
		_, err = lock.WriteAt([]byte(address.String()), 0)
		return address, err
	}
	return netip.Addr{}, failure{codeNoAddress, fmt.Errorf("no address is left in %s", conf.Subnet)}
}

// following returns the next address that a pod may have: neither the first two nor the last one.
func following(subnet netip.Prefix, address netip.Addr) netip.Addr {
	first, next := subnet.Masked().Addr().Next().Next(), address.Next()
	if next.Less(first) || !subnet.Contains(next.Next()) {
		return first
	}
	return next
}

func hostLink(container string) string { return "pv" + container[:min(12, len(container))] }

func ip(batch string, program string, words ...string) error {
	command := exec.Command(program, words...)
	command.Stdin = strings.NewReader(batch)
	if said, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(string(said)))
	}
	return nil
}
