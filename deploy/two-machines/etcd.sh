#!/bin/sh
# The operator nordunet: a CA for etcd alone, and certificates of etcd, of its user root and of the nodes.
# The user name of a client is the common name of its certificate. etcd/ca.key goes to no machine of the cluster.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
. "$here/addresses"
umask 077
mkdir etcd

# 1. The CA.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=etcd of nordunet" -days 3650 \
    -keyout etcd/ca.key -out etcd/ca.pem

# Issues etcd/NAME.pem: name, subject, extensions.
issue() {
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$2" -keyout "etcd/$1.key" -out "etcd/$1.csr"
    printf '%s\n' "$3" > "etcd/$1.ext"
    openssl x509 -req -in "etcd/$1.csr" -CA etcd/ca.pem -CAkey etcd/ca.key -CAcreateserial -days 365 \
        -extfile "etcd/$1.ext" -out "etcd/$1.pem"
    rm "etcd/$1.csr" "etcd/$1.ext"
}

# 2. etcd's own certificate: its address, and no common name.
issue server "/O=nordunet" "subjectAltName=IP:$COPENHAGEN
extendedKeyUsage=serverAuth,clientAuth"

# 3. The user root, which makes roles. It stays with the operator.
issue root "/CN=root" "extendedKeyUsage=clientAuth"

# 4. A user for each node.
issue cph-1 "/CN=cph-1" "extendedKeyUsage=clientAuth"
issue sto-1 "/CN=sto-1" "extendedKeyUsage=clientAuth"
