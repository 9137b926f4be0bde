//! Configuration of a load test, from the command line, the environment, or a test.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::Connector;

const EXAMPLES: &str = "\
Examples:
  Five participants, all publishing, for 30 s:
    systir-load --url https://sfu.example --api-key KEY --api-secret SECRET -n 5
  A lecture: one participant publishes three layers, 49 subscribe, until Ctrl-C:
    systir-load --room lecture -n 50 --publishers 1 --simulcast --stay
  For a program: only the report on standard output, as JSON:
    systir-load -n 20 --duration 10s --json

Participants use LiveKit's protocol as the SDKs do, with tokens signed by the API key. They publish
clips of cartoon faces that speak in turn; any client can decode them. They decode nothing themselves:
each frame carries a stamp, from which receivers calculate latency and loss.
The first Ctrl-C ends the test, disconnects all participants and prints the report so far; the second
exits at once.

Exit codes: 0 all joined; 1 none joined, or the test could not run; 2 some were refused or did not
stay; 64 invalid command line.";

/// Connects synthetic participants to a room of any LiveKit-compatible server and measures what they
/// receive.
#[derive(Debug, Clone, Parser)]
#[command(name = "systir-load", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Config {
    /// URL of the server: http, https, ws or wss.
    #[arg(long, env = "LIVEKIT_URL", default_value = "http://127.0.0.1:7880", help_heading = "Server")]
    pub url: String,

    /// API key of the tokens.
    #[arg(long, env = "LIVEKIT_API_KEY", default_value = "devkey", help_heading = "Server")]
    pub api_key: String,

    /// Secret of the API key.
    #[arg(
        long,
        env = "LIVEKIT_API_SECRET",
        default_value = "secret",
        hide_env_values = true,
        help_heading = "Server"
    )]
    pub api_secret: String,

    /// Trust only the certificate authorities in this PEM file, instead of the public ones.
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    pub ca: Option<PathBuf>,

    /// Room to join; the server creates it if it does not exist.
    #[arg(long, default_value = "load-test", help_heading = "Participants")]
    pub room: String,

    /// Number of participants, including publishers.
    #[arg(long, short = 'n', default_value_t = 2, help_heading = "Participants")]
    pub participants: usize,

    /// Number of participants that publish; the others only subscribe [default: all]
    #[arg(long, help_heading = "Participants")]
    pub publishers: Option<usize>,

    /// Joins per second.
    #[arg(long, default_value_t = 10.0, help_heading = "Participants")]
    pub rate: f64,

    /// Participants have identities PREFIX-0, PREFIX-1, ... and show given names.
    #[arg(long, value_name = "PREFIX", default_value = "load", help_heading = "Participants")]
    pub identity_prefix: String,

    /// Do not rejoin after the server or the network ended a session.
    #[arg(long, help_heading = "Participants")]
    pub no_rejoin: bool,

    /// Publish audio: Opus, 50 packets per second. Without --audio and --video, both are published.
    #[arg(long, help_heading = "Media")]
    pub audio: bool,

    /// Publish video: VP8. Without --audio and --video, both are published.
    #[arg(long, help_heading = "Media")]
    pub video: bool,

    /// Number of publishers that speak, in turn; the others send silence, a packet every 400 ms
    /// [default: all]
    #[arg(long, help_heading = "Media")]
    pub speakers: Option<usize>,

    /// Number of publishers that publish video [default: all]
    #[arg(long, help_heading = "Media")]
    pub cameras: Option<usize>,

    /// Publish video in three layers (rids q, h, f).
    #[arg(long, help_heading = "Media")]
    pub simulcast: bool,

    /// Bit rate of the largest video layer, kbit/s; each smaller layer has a third. The clips have about
    /// 120; the rest is padding that decoders ignore.
    #[arg(long, value_name = "KBITPS", default_value_t = 800, help_heading = "Media")]
    pub bitrate: u32,

    /// Video frames per second. The clips have 15; at another rate they play slower or faster than
    /// their audio.
    #[arg(long, default_value_t = crate::media::CLIP_FPS, help_heading = "Media")]
    pub fps: u32,

    /// RTP payload of a full video packet, bytes.
    #[arg(long, value_name = "BYTES", default_value_t = crate::media::VIDEO_BYTES, help_heading = "Media")]
    pub packet: usize,

    /// Send and receive media over TCP (ICE-TCP), as behind a firewall that blocks UDP.
    #[arg(long, help_heading = "Media")]
    pub tcp: bool,

    /// How long to measure after every participant has joined or was refused, such as 90s or 5m.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration, help_heading = "Measuring")]
    pub duration: Duration,

    /// Measure until Ctrl-C, instead of --duration.
    #[arg(long, help_heading = "Measuring")]
    pub stay: bool,

    /// Number of worker threads [default: number of CPU cores]
    #[arg(long, help_heading = "Measuring")]
    pub threads: Option<usize>,

    /// Print the report as JSON.
    #[arg(long, help_heading = "Measuring")]
    pub json: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:7880".into(),
            api_key: "devkey".into(),
            api_secret: "secret".into(),
            ca: None,
            room: "load-test".into(),
            participants: 2,
            publishers: None,
            audio: false,
            video: false,
            speakers: None,
            cameras: None,
            simulcast: false,
            bitrate: 800,
            fps: crate::media::CLIP_FPS,
            tcp: false,
            packet: crate::media::VIDEO_BYTES,
            rate: 10.0,
            duration: Duration::from_secs(30),
            stay: false,
            identity_prefix: "load".into(),
            no_rejoin: false,
            threads: None,
            json: false,
        }
    }
}

impl Config {
    /// Validates the configuration.
    ///
    /// # Errors
    /// Names the invalid option.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.participants == 0 {
            bail!("--participants must be at least 1");
        }
        if self.publishers.is_some_and(|publishers| publishers > self.participants) {
            bail!("--publishers must not be more than --participants");
        }
        if !(self.rate.is_finite() && self.rate > 0.0) {
            bail!("--rate must be more than 0 joins per second");
        }
        if !(1..=120).contains(&self.fps) || !(16..=50_000).contains(&self.bitrate) {
            bail!("--fps must be between 1 and 120, --bitrate between 16 and 50000 kbit/s");
        }
        if !(64..=1_400).contains(&self.packet) {
            bail!("--packet must be between 64 and 1400 bytes");
        }
        self.signal_url().map(drop)
    }

    /// Number of participants that publish.
    pub fn publishers(&self) -> usize {
        self.publishers.unwrap_or(self.participants)
    }

    /// Whether audio is published.
    pub fn publishes_audio(&self) -> bool {
        self.audio || !self.video
    }

    /// Whether video is published.
    pub fn publishes_video(&self) -> bool {
        self.video || !self.audio
    }

    /// Base of the signalling URL, `ws` or `wss`, without a final slash.
    ///
    /// # Errors
    /// When `url` has no host or no scheme that is known.
    pub fn signal_url(&self) -> anyhow::Result<String> {
        let (scheme, rest) =
            self.url.split_once("://").context("--url has no scheme; write http://HOST:PORT")?;
        let scheme = match scheme {
            "http" | "ws" => "ws",
            "https" | "wss" => "wss",
            other => bail!("--url has scheme {other}; use http, https, ws or wss"),
        };
        let rest = rest.trim_end_matches('/');
        if rest.is_empty() {
            bail!("--url has no host; write http://HOST:PORT");
        }
        Ok(format!("{scheme}://{rest}"))
    }
}

/// TLS that trusts only the authorities of `--ca`; none when that is not set.
pub(crate) fn tls(config: &Config) -> anyhow::Result<Option<Connector>> {
    let Some(path) = &config.ca else { return Ok(None) };
    let read = || format!("cannot read --ca {}; use a file of PEM certificates", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).with_context(read)? {
        roots.add(certificate.with_context(read)?).with_context(read)?;
    }
    if roots.is_empty() {
        bail!("{}", read());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Some(Connector::Rustls(Arc::new(client))))
}

/// `250ms`, `30s`, `5m`, `2h`, or seconds without a unit.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        other => return Err(format!("unknown unit {other}; use ms, s, m or h")),
    };
    let number: f64 = number.parse().map_err(|_| format!("{text} is not a duration; write 30s"))?;
    Duration::try_from_secs_f64(number * factor).map_err(|_| format!("{text} is too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed_with_their_units() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("30"), Ok(Duration::from_secs(30)));
        assert!(parse_duration("soon").is_err() && parse_duration("3 weeks").is_err());
        assert!(parse_duration("99999999999999999999h").is_err());
    }

    #[test]
    fn command_line_and_default_agree() {
        let parsed = Config::try_parse_from(["systir-load"]).unwrap();
        assert_eq!(format!("{parsed:?}"), format!("{:?}", Config::default()));
        parsed.check().unwrap();
    }

    #[test]
    fn invalid_options_are_refused_by_name() {
        let error = |config: Config| config.check().unwrap_err().to_string();
        assert!(error(Config { participants: 0, ..Config::default() }).contains("--participants"));
        assert!(error(Config { publishers: Some(3), ..Config::default() }).contains("--publishers"));
        assert!(error(Config { rate: f64::NAN, ..Config::default() }).contains("--rate"));
        assert!(error(Config { url: "ftp://x".into(), ..Config::default() }).contains("ftp"));
        assert_eq!(
            Config { url: "https://sfu.example/".into(), ..Config::default() }.signal_url().unwrap(),
            "wss://sfu.example"
        );
    }
}
