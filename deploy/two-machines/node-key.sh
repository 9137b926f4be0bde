#!/bin/sh
# A node makes its key: `node-key.sh cph-1`, on that machine. The operator gets cph-1/nordu.net-cph-1.pub, nobody the .key.
set -eu
node=${1:?give the node, such as cph-1}

# The node key, which signs grants and tickets, and proves on each connection which node this is.
systirctl key create --name "nordu.net/$node" --out "$node"
