//! The shell script that makes the roles. Names have only letters, digits, `-`, `_` and `.`, and keys only these
//! and `/`, so that nothing needs quotes.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use systir_assignment::StoreKeys;

use super::node_role::{NodeRole, role_prefix};
use super::roles::ClusterRoles;

/// The script: it removes what is no longer due, and can be run again at any time.
pub(crate) fn of(all: &ClusterRoles) -> String {
    let ClusterRoles { cluster, operator, documents, without_bundle, roles } = all;
    let mut text = format!(
        "#!/bin/sh\n\
         # etcd's users and roles for the nodes of {operator} in the cluster {cluster}, as these documents approve them:\n"
    );
    for document in documents {
        push(&mut text, &format!("#   {document}"));
    }
    text.push_str(
        "# Run it again after each change of these documents, as etcd's user root, with ETCDCTL_ENDPOINTS,\n\
         # ETCDCTL_CACERT, ETCDCTL_CERT and ETCDCTL_KEY set. A node's user is the common name of its client certificate.\n",
    );
    let institutions: BTreeSet<&String> = roles.iter().flat_map(|role| &role.institutions).collect();
    push(&mut text, "# Institutions in keys:");
    for institution in institutions {
        push(&mut text, &format!("#   {} is {institution}", StoreKeys::institution(institution)));
    }
    for institution in without_bundle {
        push(&mut text, &format!("# {institution} has no bundle, so it approves no node."));
    }
    text.push_str("set -eu\nexport ETCDCTL_API=3\nexists() { etcdctl \"$1\" get \"$2\" >/dev/null 2>&1; }\n");
    push(&mut text, "\n# Roles of nodes that are no longer listed.");
    let known: Vec<&str> = roles.iter().map(|role| role.role.as_str()).collect();
    push(&mut text, "roles=$(etcdctl role list)");
    push(&mut text, "for role in $roles; do");
    push(&mut text, "  case \"$role\" in");
    push(&mut text, &format!("    {}) ;;", known.join(" | ")));
    push(&mut text, &format!("    {}*) etcdctl role delete \"$role\" ;;", role_prefix(cluster)));
    push(&mut text, "  esac\ndone");
    for role in roles {
        push_role(&mut text, role);
    }
    text
}

fn push_role(text: &mut String, node_role: &NodeRole) {
    let NodeRole { node, role, institutions, permissions } = node_role;
    let names: Vec<&str> = institutions.iter().map(String::as_str).collect();
    let approved = if names.is_empty() {
        "approved by no institution".to_owned()
    } else {
        format!("approved by {}", names.join(", "))
    };
    push(text, &format!("\n# {node}: {approved}"));
    push(text, &format!("! exists role {role} || etcdctl role delete {role}"));
    push(text, &format!("etcdctl role add {role}"));
    for permission in permissions {
        let prefix = if permission.prefix { "--prefix=true " } else { "" };
        let (access, key) = (permission.access.as_str(), &permission.key);
        push(text, &format!("etcdctl role grant-permission {prefix}{role} {access} {key}"));
    }
    push(text, &format!("! exists user {node} || etcdctl user delete {node}"));
    push(text, &format!("etcdctl user add {node} --no-password"));
    push(text, &format!("etcdctl user grant-role {node} {role}"));
}

fn push(text: &mut String, line: &str) {
    // Writing to a string never fails.
    let _ = writeln!(text, "{line}");
}
