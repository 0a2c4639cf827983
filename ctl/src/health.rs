//! The flags that describe a health check, and the check they make. Times that do not fit together are the manager's to
//! refuse, to every client alike.

use std::time::Duration;

use clap::Args;
use goat_proto::v1;
use goat_proto::v1::health_check::Probe;

use crate::exit::Failure;
use crate::spec::{millis, set_some};
use crate::values;

const PROBES: [&str; 3] = ["health_http", "health_tcp", "health_cmd"];

#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "When a task is healthy")]
pub struct HealthFlags {
    /// A GET on this port of the task answers with a status from 200 to 399
    #[arg(long, value_name = "PORT[/PATH]", value_parser = http, conflicts_with_all = &PROBES[1..])]
    pub health_http: Option<v1::HttpProbe>,
    /// This port of the task accepts connections
    #[arg(long, value_name = "PORT", value_parser = tcp, conflicts_with = PROBES[2])]
    pub health_tcp: Option<v1::TcpProbe>,
    /// This command, run where the task runs, ends with exit code 0; without a shell, quotes keep words together
    #[arg(long, value_name = "COMMAND", value_parser = command, allow_hyphen_values = true)]
    pub health_cmd: Option<v1::CommandProbe>,
    /// Between one probe and the next [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub health_interval: Option<Duration>,
    /// A probe that takes longer has failed [default: 5s, or the interval if that is less]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub health_timeout: Option<Duration>,
    /// Failures before this time after the start do not count; the first success ends it [default: 0s]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub health_start_period: Option<Duration>,
    /// Failures in a row after which the task is stopped and counts as failed [default: 3]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub health_retries: Option<u32>,
    /// Without a health check, whatever the service had
    #[arg(long, conflicts_with_all = PROBES)]
    pub no_health: bool,
}

impl HealthFlags {
    /// Changes what was given and nothing else.
    pub fn apply(self, health: &mut Option<v1::HealthCheck>) -> Result<(), Failure> {
        if self.no_health {
            *health = None;
        }
        let http = self.health_http.map(Probe::Http);
        let probe = http.or(self.health_tcp.map(Probe::Tcp)).or(self.health_cmd.map(Probe::Command));
        if probe.is_some() {
            health.get_or_insert_default().probe = probe;
        }
        let [interval, timeout] = [self.health_interval, self.health_timeout].map(|time| time.map(millis));
        let start_period = self.health_start_period.map(millis);
        let Some(health) = health else {
            if interval.or(timeout).or(start_period).is_some() || self.health_retries.is_some() {
                let hint = "add --health-http, --health-tcp or --health-cmd";
                return Err(Failure::usage("there is no health check to which this belongs").with_hint(hint));
            }
            return Ok(());
        };
        if let Some(interval) = interval.filter(|_| timeout.is_none()) {
            // The timeout before it is not worth a refusal: it was most likely the default.
            health.timeout_ms = health.timeout_ms.map(|most| most.min(interval));
        }
        set_some(&mut health.interval_ms, interval);
        set_some(&mut health.timeout_ms, timeout);
        set_some(&mut health.start_period_ms, start_period);
        set_some(&mut health.retries, self.health_retries);
        Ok(())
    }
}

fn port(text: &str) -> Option<u32> {
    text.parse::<u16>().ok().filter(|port| *port > 0).map(u32::from)
}

fn http(text: &str) -> Result<v1::HttpProbe, String> {
    let (before, path) = text.split_at(text.find('/').unwrap_or(text.len()));
    let wrong = || "PORT[/PATH] with a port from 1 to 65535 is expected, as in 8080/healthz".to_owned();
    Ok(v1::HttpProbe { port: port(before).ok_or_else(wrong)?, path: path.to_owned() })
}

fn tcp(text: &str) -> Result<v1::TcpProbe, String> {
    let wrong = || "a port from 1 to 65535 is expected, as in 8080".to_owned();
    Ok(v1::TcpProbe { port: port(text).ok_or_else(wrong)? })
}

/// The words of a command; what only a shell would understand is refused, lest it become an argument unnoticed.
fn command(text: &str) -> Result<v1::CommandProbe, String> {
    let argv = shlex::split(text).filter(|argv| argv.first().is_some_and(|program| !program.is_empty()));
    let argv = argv.ok_or("a program and its arguments, quotes in pairs, are expected, as in 'pg_isready -U app'")?;
    match argv.iter().find(|word| ["&&", "||", "|", ";", ">", "<", "&"].contains(&word.as_str())) {
        Some(word) => Err(format!("{word} needs a shell, as in \"sh -c 'test -s /a {word} test -s /b'\"")),
        None => Ok(v1::CommandProbe { argv }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_paths_and_commands_are_read() {
        let read = |text: &str| http(text).map(|probe| (probe.port, probe.path));
        assert_eq!(read("8080/healthz?a=/b"), Ok((8080, "/healthz?a=/b".into())));
        assert_eq!(read("80"), Ok((80, String::new())));
        assert!(
            read("/healthz").is_err() && read("0/").is_err() && read("70000").is_err() && read("http://a").is_err()
        );
        assert_eq!(tcp("5432").map(|probe| probe.port), Ok(5432));
        assert!(tcp("0").is_err() && tcp("80/").is_err());
        let words = |text: &str| command(text).map(|probe| probe.argv.join("|"));
        assert_eq!(words("pg_isready -U 'my app'"), Ok("pg_isready|-U|my app".into()));
        assert_eq!(words("sh -c 'a && b'"), Ok("sh|-c|a && b".into()));
        assert!(words("").is_err() && words("a 'b").is_err() && words("''").is_err());
        assert!(words("a && b").is_err_and(|text| text.contains("sh -c")));
    }

    #[test]
    fn a_check_is_made_changed_in_part_and_removed() {
        let mut health = None;
        HealthFlags { health_interval: Some(Duration::from_secs(9)), ..HealthFlags::default() }
            .apply(&mut health)
            .expect_err("there is nothing to change");
        HealthFlags::default().apply(&mut health).expect("nothing was asked for");
        assert_eq!(health, None);
        let probe = HealthFlags { health_tcp: tcp("80").ok(), ..HealthFlags::default() };
        probe.apply(&mut health).expect("it is whole");
        let made = health.clone().expect("it was made");
        assert_eq!((made.probe.is_some(), made.interval_ms, made.retries), (true, None, None));

        health.get_or_insert_default().timeout_ms = Some(5_000);
        let zero = HealthFlags { health_interval: Some(Duration::ZERO), ..HealthFlags::default() };
        zero.clone().apply(&mut health).expect("the manager refuses it");
        assert_eq!(health.as_ref().and_then(|health| health.interval_ms), Some(0));
        let sooner = HealthFlags { health_interval: Some(Duration::from_secs(1)), health_retries: Some(1), ..zero };
        HealthFlags { health_http: http("81/a").ok(), ..sooner }.apply(&mut health).expect("it is whole");
        let changed = health.clone().expect("it is there");
        assert!(matches!(changed.probe, Some(Probe::Http(ref http)) if http.port == 81));
        assert_eq!((changed.interval_ms, changed.timeout_ms, changed.retries), (Some(1_000), Some(0), Some(1)));

        HealthFlags { no_health: true, ..HealthFlags::default() }.apply(&mut health).expect("it is whole");
        assert_eq!(health, None);
    }
}
