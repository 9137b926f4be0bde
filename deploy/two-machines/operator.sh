#!/bin/sh
# The operator nordunet, on a machine that is no node: the CA of the links, its key, the directory of its nodes and its floor.
# Before: the public keys of both nodes, as cph-1/nordu.net-cph-1.pub and sto-1/nordu.net-sto-1.pub (node-key.sh).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
policies=${POLICIES:-$here/../../services/policy/policies}
in_days() { date -u -d "+$1 days" +%F; }
. "$here/addresses"
umask 077
for pub in cph-1/nordu.net-cph-1.pub sto-1/nordu.net-sto-1.pub; do
    [ -r "$pub" ] || { echo "operator.sh: $pub is missing: run node-key.sh on that node first" >&2; exit 1; }
done

# 1. A CA for the links. In production use your own one, and certificates that are valid for a day.
systirctl ca create --trust-domain nordu.net --out operator/ca

# 2. A certificate for each node: one URI SAN, spiffe://nordu.net/relay/NODE. ca.key goes to no node.
systirctl ca issue --ca operator/ca --trust-domain nordu.net --node cph-1 --hours 720 --out operator/links
systirctl ca issue --ca operator/ca --trust-domain nordu.net --node sto-1 --hours 720 --out operator/links

# 3. The key that signs directory and floor. Every node pins nordu.net-2026.pub; nordu.net-2026.key stays here.
systirctl key create --name nordu.net/2026 --out operator

# 4. The directory: the nodes, with their public keys, addresses, places and owners.
systirctl directory new --operator nordunet --trust-domain nordu.net --controlled-from DK --roots operator/ca/ca.pem \
    --renew-by "$(in_days 45)" --not-after "$(in_days 60)" --out operator/directory.note
systirctl directory add operator/directory.note --id cph-1 --key cph-1/nordu.net-cph-1.pub --prefix "$COPENHAGEN/32" \
    --site Copenhagen --region dk-copenhagen --country DK --host nordunet --host-controlled-from DK
systirctl directory add operator/directory.note --id sto-1 --key sto-1/nordu.net-sto-1.pub --prefix "$STOCKHOLM/32" \
    --site Stockholm --region se-stockholm --country SE --host nordunet --host-controlled-from DK
systirctl directory sign operator/directory.note --key operator/nordu.net-2026.key

# 5. The floor: what no institution can allow on these nodes.
systirctl policy build --operator nordunet --version 1 --policy "$policies/floor.cedar" \
    --renew-by "$(in_days 180)" --not-after "$(in_days 210)" --out operator/floor.note
systirctl policy sign operator/floor.note --key operator/nordu.net-2026.key
