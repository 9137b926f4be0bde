//! Query parameters of `/rtc` (protocol version 0).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use livekit_protocol::{ClientInfo, client_info};

/// Longest text that is kept of a value that describes the client, characters.
const MAX_TEXT: usize = 256;
/// Longest decoded `attributes`, bytes.
const MAX_ATTRIBUTES: usize = 64 * 1024;
/// Longest suffix of an identity, bytes.
const MAX_SUFFIX: usize = 64;

/// The parameters of a request, without the token.
#[derive(Debug, Clone, Default)]
pub(super) struct Params {
    pub(super) client: ClientInfo,
    pub(super) auto_subscribe: bool,
    pub(super) reconnect: bool,
    pub(super) attributes: BTreeMap<String, String>,
    /// Suffix of a second connection that only publishes; its identity is `identity#suffix`.
    pub(super) publish: Option<String>,
}

impl Params {
    /// Reads the known parameters and ignores others, which newer clients may send.
    pub(super) fn read(pairs: &[(String, String)]) -> Self {
        let mut params = Self { auto_subscribe: true, ..Self::default() };
        for (key, value) in pairs {
            params.set(key, value);
        }
        params
    }

    fn set(&mut self, key: &str, value: &str) {
        let text = || value.chars().take(MAX_TEXT).collect::<String>();
        let number = || value.parse::<i32>().unwrap_or_default();
        let client = &mut self.client;
        match key {
            "auto_subscribe" => self.auto_subscribe = is_true(value),
            "reconnect" => self.reconnect = is_true(value),
            "attributes" => self.attributes = attributes(value),
            "publish" => {
                let fits =
                    !value.is_empty() && value.len() <= MAX_SUFFIX && !value.chars().any(char::is_control);
                self.publish = fits.then(|| value.to_owned());
            }
            "sdk" => client.sdk = sdk(value) as i32,
            "version" => client.version = text(),
            "protocol" => client.protocol = number(),
            "client_protocol" => client.client_protocol = number(),
            "os" => client.os = text(),
            "os_version" => client.os_version = text(),
            "browser" => client.browser = text(),
            "browser_version" => client.browser_version = text(),
            "device_model" => client.device_model = text(),
            "network" => client.network = text(),
            "other_sdks" => client.other_sdks = text(),
            "capabilities" => client.capabilities = capabilities(value),
            _ => {}
        }
    }
}

fn is_true(value: &str) -> bool {
    matches!(value, "1" | "true")
}

/// Base64url of a JSON object, with or without padding.
fn attributes(value: &str) -> BTreeMap<String, String> {
    let trimmed = value.trim_end_matches('=');
    let bytes = URL_SAFE_NO_PAD.decode(trimmed).or_else(|_| STANDARD.decode(value)).unwrap_or_default();
    if bytes.len() > MAX_ATTRIBUTES {
        return BTreeMap::new();
    }
    serde_json::from_slice(&bytes).unwrap_or_default()
}

fn capabilities(value: &str) -> Vec<i32> {
    let names = value.split(',').take(32);
    names.filter_map(client_info::Capability::from_str_name).map(|capability| capability as i32).collect()
}

fn sdk(value: &str) -> client_info::Sdk {
    use client_info::Sdk;
    match value {
        "js" => Sdk::Js,
        "ios" | "swift" => Sdk::Swift,
        "android" => Sdk::Android,
        "flutter" => Sdk::Flutter,
        "go" => Sdk::Go,
        "unity" => Sdk::Unity,
        "reactnative" => Sdk::ReactNative,
        "rust" => Sdk::Rust,
        "python" => Sdk::Python,
        "cpp" => Sdk::Cpp,
        "unityweb" => Sdk::UnityWeb,
        "node" => Sdk::Node,
        "unreal" => Sdk::Unreal,
        "esp32" => Sdk::Esp32,
        "dotnet" => Sdk::Dotnet,
        _ => Sdk::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Params {
        let pairs: Vec<_> =
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Params::read(&pairs)
    }

    #[test]
    fn parameters_of_a_browser_are_read() {
        let params = read(&[
            ("auto_subscribe", "1"),
            ("sdk", "js"),
            ("version", "2.23.0"),
            ("protocol", "17"),
            ("adaptive_stream", "1"),
            ("capabilities", "CAP_PACKET_TRAILER,CAP_FROM_THE_FUTURE"),
            ("attributes", "eyJzZWF0IjoiNCJ9"),
            ("future", "x"),
        ]);
        assert!(params.auto_subscribe && !params.reconnect);
        assert_eq!(params.client.sdk, client_info::Sdk::Js as i32);
        assert_eq!((params.client.version.as_str(), params.client.protocol), ("2.23.0", 17));
        assert_eq!(params.client.capabilities, [1]);
        assert_eq!(params.attributes.get("seat").map(String::as_str), Some("4"));
    }

    #[test]
    fn subscribing_is_the_default_and_can_be_declined() {
        assert!(read(&[]).auto_subscribe);
        assert!(!read(&[("auto_subscribe", "0")]).auto_subscribe);
        assert!(!read(&[("auto_subscribe", "false")]).auto_subscribe);
    }

    #[test]
    fn invalid_values_are_ignored_and_long_ones_cut() {
        let long = "x".repeat(10_000);
        let params = read(&[("attributes", "%%%"), ("protocol", "many"), ("publish", &long), ("os", &long)]);
        assert!(params.attributes.is_empty() && params.publish.is_none());
        assert_eq!((params.client.protocol, params.client.os.len()), (0, MAX_TEXT));
    }
}
