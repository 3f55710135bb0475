module penstock.dev/kube-tools/cluster

go 1.26.0
