//! The flags that describe a service, and the spec they make. Every flag is optional, so that the same ones change a
//! service that exists.

use std::collections::HashMap;
use std::time::Duration;

use clap::Args;
use goat_core::model::{Driver, OnDisconnect, Strategy};
use goat_proto::v1;

use crate::exit::{Failure, say};
use crate::health::HealthFlags;
use crate::values;

const NAME_DIGITS: usize = 5;
/// Hardly any program runs in less memory.
const LEAST_MEANT_BYTES: u64 = 4 << 20;
/// Of a generated name: what is left of the 63 of a DNS label, less the dash and digits, is plenty.
const MAX_STEM_CHARS: usize = 40;

#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "What the service is")]
pub struct SpecFlags {
    /// Number of tasks to keep running [default: 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub replicas: Option<u32>,
    /// What runs the tasks: docker or process [default: docker]
    #[arg(long, value_name = "DRIVER", value_parser = values::one_of::<Driver>)]
    pub driver: Option<String>,
    /// Program to run instead of the image's entrypoint; repeat for its first words. In an update, all of them
    #[arg(long, value_name = "PROGRAM", allow_hyphen_values = true)]
    pub command: Vec<String>,
    /// Set an environment variable; repeat for more. In an update, added to those that the service has
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = values::key_value)]
    pub env: Vec<(String, String)>,
    /// Attach a label; repeat for more. In an update, added to those that the service has
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = values::key_value)]
    pub label: Vec<(String, String)>,
    /// Make a port reachable on the task's node; repeat for more. In an update, replaces all ports
    #[arg(short, long, value_name = "HOST:CONTAINER[/udp]", value_parser = values::port)]
    pub publish: Vec<v1::Port>,
    /// Show an absolute path of the node, or a volume, to the task; repeat for more. In an update, replaces all mounts
    #[arg(long, value_name = "SOURCE:TARGET[:ro]", value_parser = values::mount)]
    pub mount: Vec<v1::Mount>,
    /// CPUs kept free for each task
    #[arg(long, value_name = "CPUS", value_parser = values::cpu_millis, allow_negative_numbers = true)]
    pub cpu: Option<u64>,
    /// Memory kept free for each task; units are powers of 1024 (512m, 2g), as with docker
    #[arg(long, value_name = "SIZE", value_parser = values::bytes, allow_negative_numbers = true)]
    pub memory: Option<u64>,
    /// Disk kept free for each task
    #[arg(long, value_name = "SIZE", value_parser = values::bytes, allow_negative_numbers = true)]
    pub disk: Option<u64>,
    /// CPUs that a task can use at most
    #[arg(long, value_name = "CPUS", value_parser = values::cpu_millis, allow_negative_numbers = true)]
    pub limit_cpu: Option<u64>,
    /// Memory that a task can use at most; units are powers of 1024 (512m, 2g), as with docker
    #[arg(long, value_name = "SIZE", value_parser = values::bytes, allow_negative_numbers = true)]
    pub limit_memory: Option<u64>,
    /// When a task that has ended is started again: no, on-failure[:N], always, unless-stopped [default: always]
    #[arg(long, value_name = "CONDITION", value_parser = values::restart)]
    pub restart: Option<(String, Option<u32>)>,
    /// Wait before the second restart in a row, doubled each time after [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub restart_delay: Option<Duration>,
    /// Run only on nodes with (==) or without (!=) a label; the label node.name is the node's name; repeat for more. In an
    /// update, replaces all constraints
    #[arg(long, value_name = "LABEL==VALUE", value_parser = values::constraint)]
    pub constraint: Vec<v1::Constraint>,
    /// Which node is preferred: spread, binpack or epvm [default: spread]
    #[arg(long, value_name = "STRATEGY", value_parser = values::one_of::<Strategy>)]
    pub strategy: Option<String>,
    /// Most tasks of this service on one node; 0 is without limit [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_per_node: Option<u32>,
    /// What a task does when its node reaches no manager: keep, stop or stop-if-isolated
    /// [default: stop-if-isolated for a single task, else keep]
    #[arg(long, value_name = "WHAT", value_parser = values::one_of::<OnDisconnect>)]
    pub on_disconnect: Option<String>,
    /// Between the signal to stop and the kill [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub stop_grace: Option<Duration>,
    #[command(flatten)]
    pub health: HealthFlags,
}

impl SpecFlags {
    /// Says of amounts of memory that are too small to be meant that they are in bytes.
    pub fn warn_of_bytes(&self) {
        for (flag, bytes) in [("--memory", self.memory), ("--limit-memory", self.limit_memory)] {
            if let Some(bytes) = bytes.filter(|bytes| (1..LEAST_MEANT_BYTES).contains(bytes)) {
                say(&format!(
                    "warning: {flag} is {bytes} bytes; a number without a unit is bytes, and {bytes}m would be MiB"
                ));
            }
        }
    }

    /// Changes what was given and nothing else. Variables and labels are added; other lists replace the ones before.
    pub fn apply(self, spec: &mut v1::ServiceSpec) -> Result<(), Failure> {
        set(&mut spec.replicas, self.replicas);
        set(&mut spec.driver, self.driver);
        set_list(&mut spec.command, self.command);
        spec.env.extend(self.env);
        spec.labels.extend(self.label);
        set_list(&mut spec.ports, self.publish);
        set_list(&mut spec.mounts, self.mount);
        let reservations = spec.reservations.get_or_insert_default();
        set(&mut reservations.cpu_millis, self.cpu);
        set(&mut reservations.memory_bytes, self.memory);
        set(&mut reservations.disk_bytes, self.disk);
        let limits = spec.limits.get_or_insert_default();
        set(&mut limits.cpu_millis, self.limit_cpu);
        set(&mut limits.memory_bytes, self.limit_memory);
        let restart = spec.restart.get_or_insert_default();
        if let Some((condition, max_attempts)) = self.restart {
            restart.condition = condition;
            restart.max_attempts = max_attempts;
        }
        if let Some(delay) = self.restart_delay {
            let delay_ms = millis(delay);
            restart.delay_ms = Some(delay_ms);
            // The cap before it is not worth a refusal: it was most likely the default.
            restart.max_delay_ms = restart.max_delay_ms.map(|most| most.max(delay_ms));
        }
        set_list(&mut spec.constraints, self.constraint);
        set(&mut spec.strategy, self.strategy);
        set(&mut spec.max_per_node, self.max_per_node);
        set(&mut spec.on_disconnect, self.on_disconnect);
        if let Some(grace) = self.stop_grace {
            spec.stop_grace_ms = Some(millis(grace));
        }
        self.health.apply(&mut spec.health)
    }

    /// A new service's spec. `words`: the image and its arguments; for the process driver, the program (where `--command`
    /// does not name it) and its arguments.
    pub fn into_spec(self, name: Option<String>, words: Vec<String>) -> Result<v1::ServiceSpec, Failure> {
        self.warn_of_bytes();
        let mut spec = v1::ServiceSpec { replicas: 1, ..Default::default() };
        self.apply(&mut spec)?;
        let mut words = words.into_iter();
        let is_process = spec.driver == "process";
        match is_process {
            true if spec.command.is_empty() => spec.command.extend(words.next()),
            true => {}
            false => spec.image = words.next().unwrap_or_default(),
        }
        if is_process && spec.command.is_empty() {
            let hint = "goatctl run --driver process /bin/sleep 60";
            return Err(Failure::usage("the process driver needs a program to run").with_hint(hint));
        }
        if !is_process && spec.image.is_empty() {
            let hint = "goatctl run IMAGE, or --driver process with a program";
            return Err(Failure::usage("an image is needed").with_hint(hint));
        }
        spec.args = words.collect();
        spec.name = match name {
            Some(name) => name,
            None => generated_name(if is_process { &spec.command[0] } else { &spec.image }),
        };
        Ok(spec)
    }
}

fn set<T>(field: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *field = value;
    }
}

fn set_list<T>(field: &mut Vec<T>, given: Vec<T>) {
    if !given.is_empty() {
        *field = given;
    }
}

/// As [`set`], for a field that may be absent.
pub fn set_some<T>(field: &mut Option<T>, given: Option<T>) {
    if given.is_some() {
        *field = given;
    }
}

pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What it runs, and digits enough that two such services are not likely to share a name.
fn generated_name(of: &str) -> String {
    let last = of.rsplit('/').next().unwrap_or_default();
    let stem = last.split(['@', ':']).next().unwrap_or_default();
    let mut name: String = stem
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
        .take(MAX_STEM_CHARS)
        .collect();
    name = name.trim_matches('-').to_owned();
    if name.is_empty() {
        name.push_str("service");
    }
    format!("{name}-{}", &crate::client::request_id()[..NAME_DIGITS])
}

/// Takes keys out of a map; the first that is not there is the error.
pub fn remove_keys(map: &mut HashMap<String, String>, keys: &[String], flag: &str) -> Result<(), Failure> {
    for key in keys {
        if map.remove(key).is_none() {
            return Err(Failure::usage(format!("{flag}: the service has no {key:?}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(Into::into).collect()
    }

    #[test]
    fn an_image_is_followed_by_its_arguments() {
        let spec = SpecFlags::default().into_spec(Some("web".into()), words("echo:1 --port 80")).expect("it is whole");
        assert_eq!((spec.image.as_str(), spec.replicas), ("echo:1", 1));
        assert_eq!(spec.args, words("--port 80"));
        assert_eq!(spec.name, "web");
    }

    #[test]
    fn the_process_driver_takes_its_program_from_the_words_or_the_flag() {
        let process = || SpecFlags { driver: Some("process".into()), ..SpecFlags::default() };
        let spec = process().into_spec(None, words("/bin/sleep 60")).expect("it is whole");
        assert_eq!((spec.command, spec.args), (words("/bin/sleep"), words("60")));
        assert!(spec.name.starts_with("sleep-"), "{}", spec.name);
        let flags = SpecFlags { command: words("/bin/sleep"), ..process() };
        let spec = flags.into_spec(None, words("60")).expect("it is whole");
        assert_eq!((spec.command, spec.args), (words("/bin/sleep"), words("60")));
        assert!(process().into_spec(None, vec![]).is_err());
        assert!(SpecFlags::default().into_spec(None, vec![]).is_err());
    }

    #[test]
    fn generated_names_are_names() {
        for of in ["registry:5000/team/Echo_Server:1.0", "a@sha256:00", "///", &"x".repeat(200), "-é-"] {
            let name = generated_name(of);
            assert_eq!(goat_core::model::validate::validate_name(&name), Ok(()), "{of}");
        }
        assert_ne!(generated_name("a"), generated_name("a"));
    }

    #[test]
    fn a_change_leaves_what_was_not_given() {
        let mut spec = SpecFlags { replicas: Some(3), env: vec![("A".into(), "1".into())], ..SpecFlags::default() }
            .into_spec(Some("web".into()), words("echo:1"))
            .expect("it is whole");
        let change = SpecFlags {
            env: vec![("B".into(), "2".into())],
            restart: Some(("on-failure".into(), Some(2))),
            restart_delay: Some(Duration::from_secs(120)),
            ..SpecFlags::default()
        };
        spec.restart.get_or_insert_default().max_delay_ms = Some(60_000);
        change.apply(&mut spec).expect("nothing in it is wrong");
        assert_eq!((spec.replicas, spec.env.len()), (3, 2));
        let restart = spec.restart.expect("it was given");
        assert_eq!(
            (restart.max_attempts, restart.delay_ms, restart.max_delay_ms),
            (Some(2), Some(120_000), Some(120_000))
        );
        assert_eq!(remove_keys(&mut spec.env, &["A".into()], "--env-rm"), Ok(()));
        assert!(remove_keys(&mut spec.env, &["A".into()], "--env-rm").is_err());
    }
}
