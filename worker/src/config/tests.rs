//! Options as files and flags give them.

use super::*;

fn options(text: &str) -> Result<Config, String> {
    let options: Options = toml::from_str(text).map_err(|error| error.to_string())?;
    options.into_config().map_err(|error| error.to_string())
}

#[test]
fn a_small_file_is_enough_and_defaults_are_safe() {
    let config = options("name = \"w1\"\nmanagers = [\"m1:7700\"]\ndata_dir = \"/tmp/w\"").expect("it is right");
    assert_eq!(config.runtimes, [Driver::Docker]);
    assert_eq!(config.address.to_string(), "127.0.0.1");
    assert!(config.max_concurrent_starts >= 4);
    assert_eq!((config.disk_pressure_below, config.prune_images_after), (None, Some(PRUNE_IMAGES_AFTER)));
    assert_eq!(config.runtime_down_after, RUNTIME_DOWN_AFTER);
}

#[test]
fn all_keys_are_read_and_flags_win_over_the_file() {
    let file: Options = toml::from_str(
        "name = \"w1\"\nmanagers = [\"m1:7700\", \"[::1]:7701\"]\ndata_dir = \"/tmp/w\"\naddress = \"127.0.0.9\"\n\
         bind_source = \"127.0.0.8\"\nruntimes = [\"process\", \"docker\", \"process\"]\nmemory = \"2GiB\"\n\
         disk = 1000\nreserve_memory = \"512MiB\"\ncpu_millis = 1500\ndocker_host = \"unix:///run/d.sock\"\n\
         max_concurrent_starts = 3\n\
         disk_pressure_below = \"2GiB\"\nprune_images_after = \"never\"\nruntime_down_after = \"2m\"\nlog_format = \"json\"\n[labels]\nzone = \"a\"",
    )
    .expect("parsed");
    let flags = Options {
        name: Some("w2".into()),
        labels: Some("zone=b,disk=ssd".parse().expect("labels")),
        ..Options::default()
    };
    let config = flags.or(file).into_config().expect("it is right");
    assert_eq!(config.name, "w2");
    assert_eq!(config.labels, BTreeMap::from([("zone".into(), "b".into()), ("disk".into(), "ssd".into())]));
    assert_eq!(config.runtimes, [Driver::Docker, Driver::Process]);
    assert_eq!((config.offer.memory_bytes, config.offer.disk_bytes), (Some(2 << 30), Some(1_000)));
    assert_eq!((config.offer.reserved.memory_bytes, config.offer.cpu_millis), (512 << 20, Some(1_500)));
    assert_eq!(config.docker_host, "/run/d.sock");
    assert_eq!((config.disk_pressure_below, config.prune_images_after), (Some(2 << 30), None));
    assert_eq!(config.runtime_down_after, Duration::from_secs(120));
    assert_eq!(config.bind_source.map(|ip| ip.to_string()).as_deref(), Some("127.0.0.8"));
}

#[test]
fn wrong_values_are_refused_by_their_key() {
    let base = "name = \"w1\"\ndata_dir = \"/tmp/w\"\n";
    let refused = |text: &str| options(&format!("{base}{text}")).expect_err("it is wrong");
    assert!(
        refused("plaintext = true").starts_with(
            "managers is missing: set it in the config file, with --managers or with GOAT_WORKER_MANAGERS"
        )
    );
    assert!(refused("managers = [\"m1\"]").starts_with("managers: \"m1\" is not a manager's address"));
    let with_managers = |text: &str| refused(&format!("managers = [\"m1:1\"]\n{text}"));
    assert!(with_managers("nmae = \"x\"").contains("unknown field `nmae`"));
    assert!(with_managers("max_concurrent_starts = 0").starts_with("max_concurrent_starts: 0 would start nothing"));
    assert!(with_managers("memory = \"much\"").contains("\"much\" is not a size"));
    assert!(with_managers("runtime_down_after = \"soon\"").contains("\"soon\" is not a length of time"));
    assert!(with_managers("prune_images_after = \"0s\"").contains("\"0s\" is not a length of time"));
    assert!(
        with_managers("docker_host = \"tcp://x:1\"").starts_with("docker_host: \"tcp://x:1\" is not the absolute path")
    );
    assert!(with_managers("runtimes = []").starts_with("runtimes: none is named"));
    assert!(
        options("name = \"W_1\"\nmanagers = [\"m:1\"]\ndata_dir = \"x\"").expect_err("wrong").starts_with("name: ")
    );
}
