#!/bin/sh
# The institution ku.dk, on a machine that is no node: its key, its policy, and the secrets of the nodes that it approves.
# Its rules are those of the demonstration; POLICIES names another folder.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
policies=${POLICIES:-$here/../../services/policy/policies}
in_days() { date -u -d "+$1 days" +%F; }
umask 077

# 1. The key that signs the policy. Every node pins ku.dk-2026.pub; ku.dk-2026.key stays here.
systirctl key create --name ku.dk/2026 --out institution

# 2. The room key, which seals the names of its rooms in etcd and on links.
systirctl key room --out institution/ku.room-key

# 3. The secret of the API key `ku`, which signs tokens of participants.
openssl rand -hex 32 > institution/ku.secret

# 4. The policy: which nodes may carry its rooms.
systirctl policy build --institution ku.dk --version 1 --policy "$policies/ku.dk.cedar" --zones "$policies/zones.toml" \
    --vocabulary "$policies/vocabulary.toml" --classes "$policies/classes.toml" \
    --renew-by "$(in_days 180)" --not-after "$(in_days 210)" --out institution/ku.dk.note

# 5. The rules as a node reads them: look at them before you sign.
systirctl policy show institution/ku.dk.note
if [ -t 0 ]; then
    printf 'Enter signs these rules, Ctrl-C does not. '
    read -r _
fi

# 6. Its signature.
systirctl policy sign institution/ku.dk.note --key institution/ku.dk-2026.key
