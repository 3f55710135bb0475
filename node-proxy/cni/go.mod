module penstock/cni

go 1.26
