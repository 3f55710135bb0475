"""The eBPF socket datapath: build, load, attach, fill the maps, read events."""
