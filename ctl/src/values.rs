//! Values of flags, from text. Syntax only: whether a value makes sense is the manager's to say, to every client alike.
//!
//! Each error says what is right, by example; clap puts the flag's name before it.

use std::time::Duration;

use goat_core::model::RestartCondition;
use goat_proto::convert::{Word, word};
use goat_proto::v1;

/// KEY=VALUE; the value may be empty, and hold more of `=`.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("KEY=VALUE is expected, as in LOG=debug".into()),
    }
}

/// HOST:CONTAINER[/udp], or one number for both.
pub fn port(text: &str) -> Result<v1::Port, String> {
    let wrong =
        || "HOST:CONTAINER[/tcp|/udp] with ports from 1 to 65535 is expected, as in 8080:80 or 53:53/udp".to_owned();
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if !matches!(protocol, "tcp" | "udp") {
        return Err(wrong());
    }
    let (host, container) = ports.split_once(':').unwrap_or((ports, ports));
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).map(u32::from).ok_or_else(wrong);
    Ok(v1::Port { host_port: number(host)?, container_port: number(container)?, protocol: protocol.into() })
}

/// SOURCE:TARGET[:ro].
pub fn mount(text: &str) -> Result<v1::Mount, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, read_only) = match parts[..] {
        [source, target] | [source, target, "rw"] => (source, target, false),
        [source, target, "ro"] => (source, target, true),
        _ => ("", "", false),
    };
    if source.is_empty() || target.is_empty() {
        return Err("SOURCE:TARGET[:ro] is expected, as in /srv/data:/data:ro".into());
    }
    Ok(v1::Mount { source: source.into(), target: target.into(), read_only })
}

/// CPUs as a decimal number, in thousandths.
pub fn cpu_millis(text: &str) -> Result<u64, String> {
    let wrong = || "a number of CPUs in steps of 0.001 is expected, as in 0.5 or 2".to_owned();
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let part_fits = is_number(part) && part.trim_end_matches('0').len() <= 3;
    let is_bare_fraction = whole.is_empty() && text.starts_with('.');
    if !part_fits || !(is_number(whole) || is_bare_fraction) {
        return Err(wrong());
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| wrong())? };
    let thousandths: u64 = format!("{part:0<3}")[..3].parse().map_err(|_| wrong())?;
    whole.checked_mul(1_000).and_then(|millis| millis.checked_add(thousandths)).ok_or_else(wrong)
}

/// An amount of bytes: a number, which may have a decimal fraction, and a unit. Units are powers of 1024 however they are
/// written (`m`, `MB`, `MiB`), as with `docker run --memory`; without a unit the number counts bytes.
pub fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || "an amount with a unit is expected, as in 64m, 64MiB or 2g".to_owned();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return Err(wrong()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || fraction.len() > 9 {
        return Err(wrong());
    }
    let whole: u128 = whole.parse().map_err(|_| wrong())?;
    let of_unit: u128 = fraction.parse().map_err(|_| wrong())?;
    let bytes =
        whole.checked_mul(1 << shift).ok_or_else(wrong)? + (of_unit << shift) / 10_u128.pow(fraction.len() as u32);
    u64::try_from(bytes).map_err(|_| wrong())
}

/// A point in time: so long ago, or an RFC 3339 time. In Unix milliseconds, by this machine's clock if it is relative.
pub fn since(text: &str) -> Result<u64, String> {
    let now = jiff::Timestamp::now().as_millisecond();
    let at_ms = match (humantime::parse_duration(text), text.parse::<jiff::Timestamp>()) {
        (Ok(ago), _) => now.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)),
        (_, Ok(at)) => at.as_millisecond(),
        _ => return Err("a duration or an RFC 3339 time is expected, as in 10m or 2026-01-31T12:00:00Z; a log index is --since-index's"
            .into()),
    };
    Ok(u64::try_from(at_ms).unwrap_or(0))
}

/// A span of time with a unit.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "a duration with a unit is expected, as in 500ms, 10s or 5m".into())
}

/// As [`duration`]; 0 needs no unit.
pub fn duration_or_zero(text: &str) -> Result<Duration, String> {
    if text == "0" { Ok(Duration::ZERO) } else { duration(text) }
}

/// As [`duration`], and above zero.
pub fn timeout(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("a duration above zero is expected, as in 10s".into()),
        timeout => Ok(timeout),
    }
}

/// A condition, and for `on-failure` how many restarts in a row.
pub fn restart(text: &str) -> Result<(String, Option<u32>), String> {
    let (condition, attempts) = text.split_once(':').map_or((text, None), |(name, count)| (name, Some(count)));
    let known = word::<RestartCondition>("restart", condition);
    let wrong = || "no, on-failure[:N], always or unless-stopped is expected, as in on-failure:5".to_owned();
    match (known, attempts) {
        (Ok(_), None) => Ok((condition.into(), None)),
        (Ok(RestartCondition::OnFailure), Some(count)) => {
            Ok((condition.into(), Some(count.parse().map_err(|_| wrong())?)))
        }
        _ => Err(wrong()),
    }
}

/// LABEL==VALUE or LABEL!=VALUE.
pub fn constraint(text: &str) -> Result<v1::Constraint, String> {
    let equal = text.find("==").map(|at| (at, true));
    let unequal = text.find("!=").map(|at| (at, false));
    let found = [equal, unequal].into_iter().flatten().min();
    match found {
        Some((at, equal)) if at > 0 => {
            Ok(v1::Constraint { label: text[..at].trim().into(), equal, value: text[at + 2..].trim().into() })
        }
        _ => Err("LABEL==VALUE or LABEL!=VALUE is expected, as in zone==a or node.name!=w1".into()),
    }
}

/// One of a fixed vocabulary's words, kept as text: the manager reads it again.
pub fn one_of<W: Word>(text: &str) -> Result<String, String> {
    word::<W>("", text).map(|found| found.word().to_owned()).map_err(|error| error.problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use goat_core::model::Strategy;

    #[test]
    fn cpus_are_read_to_the_thousandth() {
        for (text, millis) in [("0.5", 500), ("2", 2_000), (".25", 250), ("1.125", 1_125), ("0.1000", 100), ("0", 0)] {
            assert_eq!(cpu_millis(text), Ok(millis), "{text}");
        }
        for text in ["", ".", "-1", "0.0001", "1e3", "NaN", "inf", "0.5 ", "99999999999999999999", "é", "0.é"] {
            assert!(cpu_millis(text).is_err(), "{text}");
        }
    }

    /// The values are those of `docker run --memory` with the same text.
    #[test]
    fn units_of_memory_are_dockers() {
        for (text, value) in [
            ("512m", 512 << 20),
            ("0.5g", 512 << 20),
            ("64M", 64 << 20),
            ("64MB", 64 << 20),
            ("64mb", 64 << 20),
            ("64MiB", 64 << 20),
            ("64 MiB", 64 << 20),
            ("1g", 1 << 30),
            ("1G", 1 << 30),
            ("7000k", 7000 << 10),
            ("512", 512),
            ("512b", 512),
            ("1.5k", 1536),
            ("0", 0),
        ] {
            assert_eq!(bytes(text), Ok(value), "{text}");
        }
        for text in ["", "m", "-1", "lots", "1x", ".5g", "1.", "1.2.3m", "1e3", "99999999999p", "é", "1 2m"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_a_while_ago_or_in_rfc_3339() {
        assert_eq!(since("2023-11-14T22:13:20Z"), Ok(1_700_000_000_000));
        assert_eq!(since("2023-11-14T23:13:20+01:00"), Ok(1_700_000_000_000));
        let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).expect("it is after 1970");
        let ago = now - since("1h30m").expect("a duration");
        assert!((5_390_000..5_410_000).contains(&ago), "{ago}");
        for text in ["", "5", "yesterday", "2023-11-14"] {
            assert!(since(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ports_are_read_with_their_protocol() {
        let read = |text: &str| port(text).map(|port| (port.host_port, port.container_port, port.protocol));
        assert_eq!(read("8080:80"), Ok((8080, 80, "tcp".into())));
        assert_eq!(read("53:53/udp"), Ok((53, 53, "udp".into())));
        assert_eq!(read("80"), Ok((80, 80, "tcp".into())));
        for text in ["", "0:80", "80:0", "70000:80", "1:2:3", "80/sctp", "a:b"] {
            assert!(port(text).is_err(), "{text}");
        }
    }

    #[test]
    fn mounts_restarts_and_constraints_are_read() {
        assert_eq!(mount("/a:/b:ro").map(|mount| mount.read_only), Ok(true));
        assert_eq!(mount("/a:/b").map(|mount| mount.target), Ok("/b".into()));
        assert!(mount("/a").is_err() && mount("/a:/b:x").is_err() && mount(":/b").is_err());

        assert_eq!(restart("on-failure:3"), Ok(("on-failure".into(), Some(3))));
        assert_eq!(restart("always"), Ok(("always".into(), None)));
        assert!(restart("always:3").is_err() && restart("on-failure:x").is_err() && restart("never").is_err());

        let read = |text: &str| constraint(text).map(|it| (it.label, it.equal, it.value));
        assert_eq!(read("zone==a"), Ok(("zone".into(), true, "a".into())));
        assert_eq!(read("zone!=a==b"), Ok(("zone".into(), false, "a==b".into())));
        assert!(read("zone=a").is_err() && read("==a").is_err());
    }

    #[test]
    fn amounts_durations_and_words_are_read() {
        assert_eq!(duration_or_zero("0"), Ok(Duration::ZERO));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert!(duration("5").is_err() && timeout("0s").is_err());
        assert_eq!(key_value("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert!(key_value("A").is_err() && key_value("=b").is_err());
        assert_eq!(one_of::<Strategy>("tight"), Err("\"tight\" is not one of spread, binpack, epvm".into()));
    }
}
