//! The pods: security, probes, ports, processor time, shutdown, and what a pod is told.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::files::slots;
use crate::helm::{EXAMPLES, item, items, named, objects, of_kind, root, text};

/// Calls `check` with the specification of each pod of each example: of nodes, and of the test.
fn each_pod(check: impl Fn(&str, &Value) -> Result<()>) -> Result<()> {
    for name in EXAMPLES {
        let objects = objects(name, &[])?;
        for set in of_kind(&objects, "StatefulSet") {
            check("node", &set["spec"]["template"]["spec"])?;
        }
        let mut tests = of_kind(&objects, "Pod");
        check("test", &tests.next().context("no test")?["spec"])?;
        ensure!(tests.next().is_none());
    }
    Ok(())
}

fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    items(&spec["initContainers"]).chain(items(&spec["containers"]))
}

#[test]
fn pods_meet_the_restricted_profile_except_for_what_the_host_network_needs() -> Result<()> {
    each_pod(|kind, spec| {
        let pod = &spec["securityContext"];
        ensure!(pod["runAsNonRoot"] == true && pod["runAsUser"].as_u64() > Some(0), "{pod}");
        ensure!(pod["seccompProfile"]["type"] == "RuntimeDefault", "{pod}");
        ensure!(spec["automountServiceAccountToken"] == false, "{spec}");
        for field in ["hostPID", "hostIPC", "shareProcessNamespace"] {
            ensure!(spec.get(field).is_none(), "{field}");
        }
        for container in containers(spec) {
            let security = &container["securityContext"];
            ensure!(security["allowPrivilegeEscalation"] == false, "{container}");
            ensure!(security["readOnlyRootFilesystem"] == true, "{container}");
            ensure!(security["capabilities"] == json!({"drop": ["ALL"]}), "{container}");
            ensure!(
                security.get("privileged").is_none() && security.get("runAsUser").is_none(),
                "{container}"
            );
            ensure!(text(container, "/image")?.contains("@sha256:"), "{container}");
        }
        // The types of volumes that the profile allows.
        let allowed = ["name", "configMap", "csi", "emptyDir", "projected", "secret"];
        for volume in items(&spec["volumes"]) {
            let kinds = volume.as_object().context("no volume")?.keys();
            ensure!(kinds.clone().all(|kind| allowed.contains(&kind.as_str())), "{volume}");
        }
        // What it does not allow: the host's network, its ports, and probes of the machine's loopback address.
        ensure!((spec["hostNetwork"] == true) == (kind == "node"), "{spec}");
        Ok(())
    })
}

#[test]
fn the_image_runs_as_the_user_of_the_pods_and_has_their_programs() -> Result<()> {
    let image = std::fs::read_to_string(root().join("deploy/Containerfile"))?;
    each_pod(|_, spec| {
        let user = spec["securityContext"]["runAsUser"].as_u64().context("no user")?;
        ensure!(image.contains(&format!("\nUSER {user}\n")), "the image runs as another user than {user}");
        for container in containers(spec).filter(|container| container["name"] != "spiffe-helper") {
            let program = text(container, "/command/0")?;
            ensure!(image.contains(&format!("/src/target/release/{program}")), "the image has no {program}");
        }
        Ok(())
    })
}

#[test]
fn no_variable_of_a_service_reaches_a_node() -> Result<()> {
    // Kubernetes would set SYSTIR_SIGNALLING_SERVICE_HOST for the Service of that name, and the relay refuses what it does not know.
    each_pod(|_, spec| {
        ensure!(spec["enableServiceLinks"] == false, "{spec}");
        Ok(())
    })
}

#[test]
fn probes_ask_the_paths_that_the_relay_has_and_nothing_that_asks_etcd() -> Result<()> {
    let source = std::fs::read_to_string(root().join("services/relay/src/metrics/mod.rs"))?;
    for (name, address) in [("story", "host"), ("one-site", "loopback")] {
        for set in of_kind(&objects(name, &[])?, "StatefulSet") {
            let relay = item(&set["spec"]["template"]["spec"]["containers"], "relay")?;
            for (probe, path) in
                [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")]
            {
                let get = &relay[probe]["httpGet"];
                ensure!(get["path"] == path && get["port"] == "metrics", "{probe}: {get}");
                ensure!(source.contains(&format!("\"{path}\"")), "the relay has no {path}");
                let host = if address == "loopback" { json!("127.0.0.1") } else { Value::Null };
                ensure!(get["host"] == host, "{probe} of {name}: {get}");
            }
            let telemetry =
                items(&relay["env"]).find(|variable| variable["name"] == "SYSTIR_TELEMETRY__LISTEN");
            ensure!(telemetry.is_some() == (address == "host"), "{name}: {telemetry:?}");
            // Readiness waits up to 10 s for the registry; the start has longer.
            let startup = &relay["startupProbe"];
            let longest = startup["periodSeconds"].as_u64().zip(startup["failureThreshold"].as_u64());
            ensure!(longest.is_some_and(|(period, times)| period * times >= 60), "{startup}");
        }
    }
    Ok(())
}

#[test]
fn ports_are_those_of_the_configuration_and_of_the_command_contract() -> Result<()> {
    let listed = std::fs::read_to_string(root().join("docs/operations.md"))?;
    for name in EXAMPLES {
        let objects = objects(name, &[])?;
        for set in of_kind(&objects, "StatefulSet") {
            let pool = text(set, "/metadata/name")?;
            let relay = item(&set["spec"]["template"]["spec"]["containers"], "relay")?;
            let config = named(&objects, "ConfigMap", &format!("{pool}-config"))?["data"].as_object();
            let config =
                config.and_then(|data| data.values().next()).and_then(Value::as_str).context("no file")?;
            let workers =
                config.lines().find_map(|line| line.strip_prefix("workers = ")).context("no workers")?;
            let mut media = 0;
            for port in items(&relay["ports"]) {
                let number = port["containerPort"].as_u64().context("no port")?;
                ensure!(port["hostPort"] == number, "{port}");
                let name = text(port, "/name")?;
                ensure!(name.len() <= 15, "{name}");
                if let Some(worker) = name.strip_prefix("media-") {
                    assert_eq!((number, text(port, "/protocol")?), (7882 + worker.parse::<u64>()?, "UDP"));
                    media += 1;
                } else {
                    ensure!(config.contains(&format!(":{number}\"")), "{name}: {number} is not in {config}");
                    ensure!(listed.contains(&format!("| {number} {}", text(port, "/protocol")?)), "{port}");
                }
            }
            assert_eq!(media.to_string(), workers, "{pool}");
        }
    }
    Ok(())
}

#[test]
fn a_node_of_a_pool_that_is_no_gateway_holds_nothing_that_clients_trust() -> Result<()> {
    let objects = objects("story", &[])?;
    let leased = &named(&objects, "StatefulSet", "aws-sto")?["spec"]["template"]["spec"];
    for volume in ["http", "keys"] {
        ensure!(item(&leased["volumes"], volume).is_err(), "aws-sto mounts {volume}");
    }
    let config = text(named(&objects, "ConfigMap", "aws-sto-config")?, "/data/aws-sto-1.toml")?;
    ensure!(config.contains("\n[http]\nlisten = \"127.0.0.1:7880\"\n"), "{config}");
    ensure!(!config.contains("[keys") && !config.contains("[room_keys"), "{config}");
    let own = &named(&objects, "StatefulSet", "cph")?["spec"]["template"]["spec"];
    item(&own["volumes"], "http")?;
    item(&own["volumes"], "keys")?;
    let selector = &named(&objects, "Service", "systir-signalling")?["spec"]["selector"];
    ensure!(selector["systir.org/gateway"] == "true", "{selector}");
    let labels = &named(&objects, "StatefulSet", "aws-sto")?["spec"]["template"]["metadata"]["labels"];
    ensure!(labels["systir.org/gateway"] == "false", "{labels}");
    Ok(())
}

#[test]
fn a_node_has_its_cores_alone_or_no_limit_of_processor_time() -> Result<()> {
    each_pod(|kind, spec| {
        if kind == "test" {
            return Ok(());
        }
        let relay = item(&spec["containers"], "relay")?;
        let resources = &relay["resources"];
        let limited = resources["limits"].get("cpu").is_some();
        for container in containers(spec) {
            let resources = &container["resources"];
            ensure!(resources["requests"]["memory"] == resources["limits"]["memory"], "{resources}");
            ensure!(resources["limits"].get("cpu").is_some() == limited, "{resources}");
            // Of all containers: then the pod is of the class Guaranteed.
            ensure!(!limited || resources["requests"]["cpu"] == resources["limits"]["cpu"], "{resources}");
        }
        let cores = text(relay, "/resources/requests/cpu")?;
        ensure!(cores.parse::<u32>().is_ok(), "only whole cores can be a pod's alone: {cores}");
        Ok(())
    })
}

#[test]
fn each_node_is_a_name_of_the_directory_and_never_shares_a_machine() -> Result<()> {
    let objects = objects("two-regions", &[])?;
    assert_eq!(slots(&objects), ["cph-1", "cph-2", "cph-3", "sto-0", "sto-1"]);
    for (pool, first) in [("cph", 1), ("sto", 0)] {
        let spec = &named(&objects, "StatefulSet", pool)?["spec"];
        assert_eq!(spec["ordinals"]["start"], first);
        assert_eq!(spec["podManagementPolicy"], "Parallel");
        let apart = &spec["template"]["spec"]["affinity"]["podAntiAffinity"];
        let apart = &apart["requiredDuringSchedulingIgnoredDuringExecution"][0];
        assert_eq!(apart["topologyKey"], "kubernetes.io/hostname");
        // All nodes of all releases: their ports are the machine's.
        assert_eq!(apart["namespaceSelector"], json!({}));
        let labels = &spec["template"]["metadata"]["labels"];
        for (key, value) in apart["labelSelector"]["matchLabels"].as_object().context("no labels")? {
            assert_eq!(labels[key], *value);
        }
        let budget = &named(&objects, "PodDisruptionBudget", pool)?["spec"];
        assert_eq!(budget["maxUnavailable"], 1);
        assert_eq!(budget["unhealthyPodEvictionPolicy"], "AlwaysAllow");
        assert_eq!(budget["selector"], spec["selector"]);
        // The node key stays when the pod goes.
        let kept = json!({"whenDeleted": "Retain", "whenScaled": "Retain"});
        assert_eq!(spec["persistentVolumeClaimRetentionPolicy"], kept);
    }
    // An autoscaler sets the number of nodes, Helm does not.
    ensure!(named(&objects, "StatefulSet", "sto")?["spec"].get("replicas").is_none());
    assert_eq!(named(&objects, "StatefulSet", "cph")?["spec"]["replicas"], 2);
    Ok(())
}

#[test]
fn a_pod_has_time_to_sleep_to_drain_and_to_stop() -> Result<()> {
    let objects = objects("one-site", &[])?;
    let spec = &named(&objects, "StatefulSet", "cph")?["spec"]["template"]["spec"];
    let stop = item(&spec["containers"], "relay")?["lifecycle"]["preStop"].clone();
    assert_eq!(stop, json!({"sleep": {"seconds": 10}}));
    assert_eq!(spec["terminationGracePeriodSeconds"], 180);
    Ok(())
}

#[test]
fn the_leased_pool_starts_from_none_and_ends_with_the_slots_of_the_directory() -> Result<()> {
    let objects = objects("story", &[])?;
    let scaled = &named(&objects, "ScaledObject", "aws-sto")?["spec"];
    assert_eq!((&scaled["minReplicaCount"], &scaled["maxReplicaCount"]), (&json!(0), &json!(3)));
    assert_eq!(scaled["scaleTargetRef"]["kind"], "StatefulSet");
    let query = text(scaled, "/triggers/0/metadata/query")?;
    for part in [
        "systir_seats_used{namespace=\"media\"}",
        "systir_seats_capacity{namespace=\"media\",systir_org_pool!=\"aws-sto\"}",
        "systir_ladder_steps_total{namespace=\"media\",role=\"refuse\",reason=\"approved-full\"}",
        "* 80 / 100",
        "/ 300)",
    ] {
        ensure!(query.contains(part), "{part} is not in {query}");
    }
    Ok(())
}
