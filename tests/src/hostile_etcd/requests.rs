//! The attacker's requests to etcd, over etcd's JSON gateway.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{PREFIX, Record};

/// Name and password of etcd's administrator, while others are refused.
const ADMINISTRATOR: &str = "root";

/// Most writes of one request, and the size from which a value is written by itself: etcd limits both.
const MAX_PUTS: usize = 100;
const LARGE: usize = 10_000;

/// A client of etcd.
#[derive(Debug)]
pub(super) struct Requests {
    url: String,
    client: reqwest::Client,
}

impl Requests {
    pub(super) fn new(url: String) -> Result<Self> {
        // A connection to an etcd that was restarted would fail once.
        let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0);
        Ok(Self { url, client: client.timeout(Duration::from_secs(5)).build()? })
    }

    /// All records whose key starts so, after the cluster's prefix.
    pub(super) async fn records(&self, below: &str) -> Result<Vec<Record>> {
        let answer = self.send("kv/range", range(below)).await?;
        let text = |value: &Value| STANDARD.decode(value.as_str().unwrap_or_default());
        let records = answer["kvs"].as_array().into_iter().flatten();
        records.map(|one| Ok((String::from_utf8(text(&one["key"])?)?, text(&one["value"])?))).collect()
    }

    pub(super) async fn put(&self, key: &str, value: &[u8]) -> Result<()> {
        self.send("kv/put", put_of(key, value)).await.map(drop)
    }

    pub(super) async fn put_all(&self, records: &[Record]) -> Result<()> {
        let (large, small): (Vec<_>, Vec<_>) = records.iter().partition(|(_, value)| value.len() > LARGE);
        for (key, value) in large {
            self.put(key, value).await?;
        }
        for some in small.chunks(MAX_PUTS) {
            let puts = some.iter().map(|(key, value)| json!({"requestPut": put_of(key, value)}));
            self.send("kv/txn", json!({"success": puts.collect::<Vec<_>>()})).await?;
        }
        Ok(())
    }

    pub(super) async fn delete(&self, below: &str) -> Result<()> {
        self.send("kv/deleterange", range(below)).await.map(drop)
    }

    pub(super) async fn revoke_leases(&self) -> Result<()> {
        let answer = self.send("lease/leases", json!({})).await?;
        for lease in answer["leases"].as_array().into_iter().flatten() {
            // A node may have ended it meanwhile.
            let _ = self.send("lease/revoke", json!({"ID": lease["ID"]})).await;
        }
        Ok(())
    }

    /// Drops all history before the current revision.
    pub(super) async fn compact(&self) -> Result<()> {
        let answer = self.send("kv/range", range("")).await?;
        let revision = answer["header"]["revision"].as_str().context("no revision")?;
        self.send("kv/compaction", json!({"revision": revision, "physical": true})).await.map(drop)
    }

    /// Refuses all who do not know the administrator's password.
    pub(super) async fn refuse_others(&self) -> Result<()> {
        let role = json!({"name": ADMINISTRATOR});
        let user = json!({"name": ADMINISTRATOR, "password": ADMINISTRATOR});
        // An earlier attack may have added them.
        let _ = self.send("auth/role/add", role).await;
        let _ = self.send("auth/user/add", user).await;
        let granted = json!({"user": ADMINISTRATOR, "role": ADMINISTRATOR});
        self.send("auth/user/grant", granted).await?;
        self.send("auth/enable", json!({})).await.map(drop)
    }

    /// Refuses nobody any more.
    pub(super) async fn refuse_nobody(&self) -> Result<()> {
        let user = json!({"name": ADMINISTRATOR, "password": ADMINISTRATOR});
        let answer = self.send("auth/authenticate", user).await?;
        let token = answer["token"].as_str().context("no token")?;
        self.send_with("auth/disable", json!({}), token).await.map(drop)
    }

    async fn send(&self, path: &str, body: Value) -> Result<Value> {
        self.send_with(path, body, "").await
    }

    async fn send_with(&self, path: &str, body: Value, token: &str) -> Result<Value> {
        let mut request = self.client.post(format!("{}/v3/{path}", self.url)).json(&body);
        if !token.is_empty() {
            request = request.header("Authorization", token);
        }
        let answer = request.send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        if !status.is_success() {
            bail!("etcd refuses {path}: {status} {text}");
        }
        Ok(serde_json::from_str(&text)?)
    }
}

fn put_of(key: &str, value: &[u8]) -> Value {
    json!({"key": STANDARD.encode(key), "value": STANDARD.encode(value)})
}

/// The range of keys that start so, after the cluster's prefix. The part ends with `/`, whose next character
/// is `0`.
fn range(below: &str) -> Value {
    let from = format!("{PREFIX}{below}");
    let end = format!("{}0", from.trim_end_matches('/'));
    json!({"key": STANDARD.encode(from), "range_end": STANDARD.encode(end)})
}
