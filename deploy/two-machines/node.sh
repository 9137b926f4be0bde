#!/bin/sh
# A node puts its files together: `node.sh cph-1`, as root on that machine. ETC is the folder, OWNER the user that reads it.
# Before: the folders of node-key.sh, operator.sh, institution.sh and etcd.sh, with the files that README.md lists, and the
# web certificate of this machine in web/NODE.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
node=${1:?give the node, such as cph-1}
etc=${ETC:-/etc/systir}
owner=${OWNER:-systir}
. "$here/addresses"

# 1. Folders that only the node reads.
install -d -m 700 "$etc" "$etc/documents" "$etc/etcd" "$etc/tls"

# 2. The node key, and the certificate of its links.
install -m 600 "$node/nordu.net-$node.key" "$etc/$node.node-key"
install -m 600 "operator/links/$node.pem" "operator/links/$node.key" "$etc"

# 3. The signed documents.
install -m 644 operator/directory.note operator/floor.note institution/ku.dk.note "$etc/documents"

# 4. The institution's API secret and room key: only on nodes that it approves.
install -m 600 institution/ku.secret institution/ku.room-key "$etc"

# 5. The certificates for etcd and for browsers.
install -m 600 etcd/ca.pem "etcd/$node.pem" "etcd/$node.key" "$etc/etcd"
install -m 600 "web/$node/fullchain.pem" "web/$node/key.pem" "$etc/tls"

# 6. The configuration, with your addresses, and with the public keys of operator and institution as pins.
sed -e "s|192.0.2.10|$COPENHAGEN|; s|198.51.100.20|$STOCKHOLM|" \
    -e "s|^keys = \[\"nordu.net/.*|keys = [\"$(cat operator/nordu.net-2026.pub)\"]|" \
    -e "s|^keys = \[\"ku.dk/.*|keys = [\"$(cat institution/ku.dk-2026.pub)\"]|" \
    "$here/$node.toml" > "$etc/node.toml"
chown -R "$owner" "$etc"

# 7. Each fault with its line; nothing is started.
systir-relay check --config "$etc/node.toml"
