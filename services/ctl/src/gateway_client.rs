//! HTTP requests to a gateway.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use livekit_token::{AccessToken, VideoGrants};
use reqwest::{Response, StatusCode, Url};
use serde_json::Value;

use crate::tables::printable;

/// The longest answer, bytes: more than the list of 100,000 rooms has.
const MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;

/// The gateway to ask, and the API key to sign tokens with.
#[derive(Debug, Args)]
pub(crate) struct GatewayClient {
    /// URL of a gateway of the cluster.
    #[arg(long, env = "SYSTIR_URL", default_value = "http://127.0.0.1:7880", global = true)]
    pub(crate) url: String,
    /// The institution's API key.
    #[arg(long, env = "SYSTIR_API_KEY", default_value = "devkey", global = true)]
    pub(crate) api_key: String,
    /// The API key's secret.
    #[arg(long, env = "SYSTIR_API_SECRET", default_value = "secret", hide_env_values = true, global = true)]
    pub(crate) api_secret: String,
}

/// What a gateway answered.
struct Answer {
    url: Url,
    status: StatusCode,
    body: String,
}

impl Answer {
    /// None: there is no such thing.
    fn found(self) -> Option<Self> {
        (self.status != StatusCode::NOT_FOUND).then_some(self)
    }

    fn text(self) -> Result<String> {
        let Self { url, status, body } = self;
        if !status.is_success() {
            bail!("{url} answered {status}: {}", printable(body.trim_end()));
        }
        Ok(body)
    }

    fn value(self) -> Result<Value> {
        let url = self.url.clone();
        serde_json::from_str(&self.text()?).with_context(|| format!("{url} did not answer with JSON"))
    }
}

impl GatewayClient {
    /// Requests the path made of these segments, with a token that is valid for one minute.
    pub(crate) async fn get(&self, path: &[&str]) -> Result<Value> {
        self.send(reqwest::Method::GET, path, String::new(), "").await?.value()
    }

    /// As [`GatewayClient::get`], with a token for this room. None: there is no such thing.
    pub(crate) async fn find_in_room(&self, room: &str, path: &[&str]) -> Result<Option<Value>> {
        let answer = self.send(reqwest::Method::GET, path, String::new(), room).await?;
        answer.found().map(Answer::value).transpose()
    }

    /// The text at the path made of these segments; none if there is no such thing.
    pub(crate) async fn get_text(&self, path: &[&str]) -> Result<Option<String>> {
        let answer = self.send(reqwest::Method::GET, path, String::new(), "").await?;
        answer.found().map(Answer::text).transpose()
    }

    /// Posts a text to the path made of these segments, with a token that is valid for one minute.
    pub(crate) async fn post(&self, path: &[&str], body: String) -> Result<Value> {
        self.send(reqwest::Method::POST, path, body, "").await?.value()
    }

    async fn send(&self, method: reqwest::Method, path: &[&str], body: String, room: &str) -> Result<Answer> {
        let room = room.to_owned();
        let grants = VideoGrants { room_list: true, room_admin: true, room, ..Default::default() };
        let token = AccessToken::with_api_key(&self.api_key, &self.api_secret)
            .with_identity("systirctl")
            .with_grants(grants)
            .with_ttl(Duration::from_secs(60))
            .to_jwt()
            .context("no token can be made with this API key and secret")?;
        let url = self.url(path)?;
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
        let response = client
            .request(method, url.clone())
            .bearer_auth(token)
            .body(body)
            .send()
            .await
            .with_context(|| format!("{} does not answer; is it a gateway? (--url)", self.url))?;
        let status = response.status();
        let body = self.body(response).await?;
        Ok(Answer { url, status, body })
    }

    /// Reads the body of an answer, if it is not too long: the server that answers may be no gateway.
    async fn body(&self, mut response: Response) -> Result<String> {
        let mut body = Vec::new();
        while let Some(part) =
            response.chunk().await.with_context(|| format!("the answer of {} cannot be read", self.url))?
        {
            if body.len() + part.len() > MAX_ANSWER_BYTES {
                bail!(
                    "{} answered with more than {MAX_ANSWER_BYTES} bytes; is it a gateway? (--url)",
                    self.url
                );
            }
            body.extend_from_slice(&part);
        }
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// The URL of this path. Segments are percent-encoded, so a room's name cannot change the path.
    fn url(&self, path: &[&str]) -> Result<Url> {
        let mut url = Url::parse(&self.url).with_context(|| format!("--url {} is not a URL", self.url))?;
        match url.path_segments_mut() {
            Ok(mut segments) => segments.pop_if_empty().extend(path),
            Err(()) => bail!("--url {} cannot have a path", self.url),
        };
        Ok(url)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    fn client(url: String) -> GatewayClient {
        GatewayClient { url, api_key: "devkey".to_owned(), api_secret: "secret".to_owned() }
    }

    /// A gateway that answers one request with JSON of this length, and does not say how long it is.
    fn gateway_with_answer(length: usize) -> GatewayClient {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut request, mut byte) = (Vec::new(), [0]);
            while !request.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n7").unwrap();
            let spaces = [b' '; 1 << 16];
            let mut left = length - 1;
            while left > 0 {
                let part = left.min(spaces.len());
                // The client hangs up when it has read enough.
                let Ok(()) = stream.write_all(&spaces[..part]) else { return };
                left -= part;
            }
        });
        client(url)
    }

    #[tokio::test]
    async fn an_answer_without_end_is_not_read_to_its_end() {
        let longest = gateway_with_answer(MAX_ANSWER_BYTES);
        assert_eq!(longest.get(&["systir", "v1", "rooms"]).await.unwrap(), 7);
        let longer = gateway_with_answer(MAX_ANSWER_BYTES + 1);
        let error = longer.get(&["systir", "v1", "rooms"]).await.unwrap_err().to_string();
        let expected = format!("{} answered with more than {MAX_ANSWER_BYTES} bytes", longer.url);
        assert!(error.starts_with(&expected), "{error}");
    }

    #[test]
    fn the_error_of_a_gateway_does_not_control_the_terminal() {
        let url = Url::parse("http://127.0.0.1:7880/systir/v1/nodes").unwrap();
        let body = "down\u{1b}]0;x\u{7}\r\nsystirctl: \u{9b}2Jall is well\r\n".to_owned();
        let answer = Answer { url, status: StatusCode::BAD_GATEWAY, body };
        let error = answer.text().unwrap_err().to_string();
        assert!(!error.contains(char::is_control), "{error:?}");
        assert!(error.ends_with("all is well"), "{error:?}");
    }

    #[test]
    fn room_names_cannot_change_the_path() {
        let client = client("http://127.0.0.1:7880/".to_owned());
        let url = client.url(&["systir", "v1", "rooms", "a/../b c?", "explain"]).unwrap();
        assert_eq!(url.path(), "/systir/v1/rooms/a%2F..%2Fb%20c%3F/explain");
    }
}
