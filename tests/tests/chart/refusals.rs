//! Values that cannot work are refused, each with a sentence.

use anyhow::{Context as _, Result, ensure};

use crate::helm::{example, template};

/// The error that these values lead to.
fn refused(name: &str, sets: &[&str]) -> Result<String> {
    let error = template(&[example(name)], sets).err().with_context(|| format!("{sets:?} is accepted"))?;
    Ok(format!("{error:#}"))
}

#[test]
fn a_typo_is_refused_by_name_wherever_it_is() -> Result<()> {
    for (set, typo) in [
        ("replica=2", "replica"),
        ("pools.cph.replica=2", "replica"),
        (r#"pools.cph.nodes.cph-1={"media":["192.0.2.10"],"link":"192.0.2.10"}"#, "link"),
        ("image.digests=1", "digests"),
        ("metrics.podMonitor.enable=true", "enable"),
        ("network.ports.https=1", "https"),
        ("certificates.links.issuers={}", "issuers"),
        ("pools.cph.autoscaling.minimum=1", "minimum"),
        ("poolDefaults.capacities=1", "capacities"),
    ] {
        let error = refused("story", &[set])?;
        ensure!(error.contains(&format!("'{typo}' not allowed")), "{set}: {error}");
    }
    Ok(())
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_with_its_place() -> Result<()> {
    for (set, place) in [
        (r#"pools.cph.replicas="two""#, "/pools/cph/replicas"),
        ("pools.cph.workers=17", "/pools/cph/workers"),
        ("pools.cph.cpus=1.5", "/pools/cph/cpus"),
        (r#"pools.CPH={"slots":1}"#, "CPH"),
        (r#"image.digest="sha256:12""#, "/image/digest"),
        (r#"etcd.endpoints=["http://192.0.2.5:2379"]"#, "/etcd/endpoints/0"),
        (r#"signalling.mode="terminate""#, "/signalling/mode"),
        (r#"operators.nordunet.keys=["not a key"]"#, "/operators/nordunet/keys/0"),
        (r#"test.countries=["Denmark"]"#, "/test/countries/0"),
        (r#"traces.otlp="https://collector:4317""#, "/traces/otlp"),
        (r#"documents.notes={"directory.txt":"x"}"#, "directory.txt"),
        ("policy.grantSeconds=5", "/policy/grantSeconds"),
    ] {
        let error = refused("story", &[set])?;
        ensure!(error.contains(place), "{set}: {error}");
    }
    Ok(())
}

#[test]
fn values_that_contradict_each_other_are_refused_with_what_to_do() -> Result<()> {
    let cases: &[(&[&str], &str)] = &[
        (&[r#"image.digest="""#], "set the image's digest"),
        (&[r#"image.digest="""#, r#"image.tag="latest""#], "image.allowTag=true"),
        (&[r#"cluster.operator="sunet""#], "\"sunet\" has no keys under operators"),
        (&[r#"apiKeys.ku.institution="ku.kd""#], "\"ku.kd\" has no keys under institutions"),
        (&[r#"documents.configMap="""#], "without them no node starts"),
        (&[r#"documents.notes={"a.note":"x"}"#], "either configMap or notes"),
        (&["pools.cph.replicas=3"], "3 are more than the 2 slots of the signed directory"),
        (&["pools.aws-sto.autoscaling.max=4"], "4 are more than the 3 slots of the signed directory"),
        (&["pools.aws-sto.autoscaling.min=4"], "4 is more than the most, 3"),
        (&[r#"pools.aws-sto.autoscaling.kind="hpa""#], "does not start from 0"),
        (&[r#"pools.aws-sto.autoscaling.prometheus="""#], "set the URL of Prometheus"),
        (&["metrics.podMonitor.enabled=false"], "it needs the nodes' metrics"),
        (&[r#"metrics.address="loopback""#], "Prometheus cannot reach 127.0.0.1"),
        (&["pools.cph.workers=5"], "5 media threads need as many cores"),
        (&["pools.cph.capacity=0"], "pools.cph.capacity: it is missing"),
        (&["pools.cph.nodeSelector={}"], "pools.cph.nodeSelector: it is missing"),
        (&[r#"pools.cph.apiKeys=["uk"]"#], "there is no \"uk\" under apiKeys"),
        (&["pools.cph.roomKeys=[]"], "no room key of it"),
        (&["pools.cph.slots=3"], "pools.cph.nodes.cph-3: set media and links"),
        (
            &[r#"pools.cph.nodes.cph-9={"media":["192.0.2.9"],"links":"192.0.2.9"}"#],
            "\"cph-9\" is no node of this pool; its nodes are cph-1, cph-2",
        ),
        (
            &[r#"pools.cph.nodes.cph-1={"media":["2001:db8::1"],"links":"192.0.2.9"}"#],
            "nothing listens on IPv6, and 2001:db8::1 is advertised",
        ),
        (&[r#"pools.cph.addresses="host""#], "remove nodes"),
        (&["network.ports.http=7870", "network.ports.grpc=7870"], "both use TCP port 7870"),
        (&["network.ports.quic=7884"], "both use UDP port 7884"),
        (&["network.ports.media=65534"], "ports end at 65535"),
        (&["terminationGracePeriodSeconds=600"], "drain.sleepSeconds (10) and 30 s to stop need 640"),
        (&["drain.deadlineSeconds=1200"], "need 1240"),
        (&[r#"signalling.mode="terminated""#], "set signalling.proxySeesTokens=true"),
        (&["signalling.proxySeesTokens=true"], "it belongs to mode terminated only"),
        (&[r#"signalling.mode="direct""#], "with mode direct there is no proxy"),
        (&["signalling.gateway={}"], "without a Gateway use mode direct"),
        (&["pools.cph.gateway=false", "pools.sto.gateway=false"], "nobody takes clients' connections"),
        (&["certificates.links.issuer={}"], "certificates.links.issuer.name: set"),
        (&[r#"certificates.etcd.source="secret""#], "certificates.etcd.secretName: set it"),
        (&[r#"certificates.links.source="spire""#], "set the image of spiffe-helper"),
        (&[r#"test.apiKey="nobody""#], "test.apiKey: there is no API key"),
        (&["test.countries=[]"], "list the countries"),
        (&["pools={}"], "there is no pool"),
    ];
    for (sets, sentence) in cases {
        let error = refused("story", sets)?;
        ensure!(error.contains(sentence), "{sets:?}: {error}");
        ensure!(error.matches("Error:").count() == 1, "{sets:?}: {error}");
    }
    Ok(())
}

#[test]
fn pools_must_fit_the_signed_directory() -> Result<()> {
    let node = |id: &str, prefix: &str| {
        format!(r#"[[node]]\nid = \"{id}\"\nprefixes = [\"{prefix}\", \"2001:db8::/48\"]\n\n"#)
    };
    let nodes: String = [
        ("cph-1", "192.0.2.8/29"),
        ("cph-2", "192.0.2.0/24"),
        ("sto-1", "198.51.100.20/32"),
        ("sto-2", "198.51.100.0/25"),
    ]
    .map(|(id, prefix)| node(id, prefix))
    .concat();
    let leased: String =
        ["aws-sto-1", "aws-sto-2", "aws-sto-3"].map(|id| node(id, "203.0.113.0/24")).concat();
    let directory = |nodes: &str| {
        let text = format!(
            r#"systir.org/directory/v1\noperator = \"nordunet\"\nversion = 12\n\n{nodes}\n— nordu.net/2026 AAAA\n"#
        );
        format!(r#"documents={{"configMap":"","notes":{{"directory.note":"{text}"}}}}"#)
    };
    template(&[example("story")], &[&directory(&(nodes.clone() + &leased))])?;
    let error = refused("story", &[&directory(&nodes)])?;
    ensure!(
        error.contains("pools.aws-sto.slots: the signed directory (directory.note) does not list aws-sto-1"),
        "{error}"
    );
    let outside = r#"pools.cph.nodes.cph-1={"media":["192.0.2.10"],"links":"192.0.2.16"}"#;
    let error = refused("story", &[&directory(&(nodes.clone() + &leased)), outside])?;
    let sentence = "pools.cph.nodes.cph-1.links: 192.0.2.16 is outside the prefixes that the signed directory (directory.note) lists for cph-1";
    ensure!(error.contains(sentence), "{error}");
    let unsigned = directory(&(nodes + &leased)).replace(r"\n— nordu.net/2026 AAAA", "");
    ensure!(refused("story", &[&unsigned])?.contains("directory.note is not signed"));
    Ok(())
}
