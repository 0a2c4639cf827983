//! What is wrong with a command line is said before anybody is asked.

use crate::run::goatctl;
use crate::server::nobody;

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_command_line_names_the_flag_says_what_is_right_and_ends_with_two() {
    let nobody = nobody().await;
    for (line, texts) in [
        ("run --replicas -1 echo:1", ["--replicas", "not in"]),
        ("run -e A echo:1", ["--env", "KEY=VALUE"]),
        ("run -p 99999:80 echo:1", ["--publish", "HOST:CONTAINER"]),
        ("run --memory lots echo:1", ["--memory", "64MiB"]),
        ("run --cpu -1 echo:1", ["--cpu", "0.5"]),
        ("run --restart never echo:1", ["--restart", "on-failure[:N]"]),
        ("run --restart on-failure:-1 echo:1", ["--restart", "on-failure[:N]"]),
        ("run --health-http http://a echo:1", ["--health-http", "8080/healthz"]),
        ("run --health-tcp 0 echo:1", ["--health-tcp", "from 1 to 65535"]),
        ("run --health-tcp 80 --health-http 80 echo:1", ["--health-tcp", "--health-http"]),
        ("run --health-tcp 80 --health-interval 5 echo:1", ["--health-interval", "10s"]),
        ("run --health-tcp 80 --health-retries -1 echo:1", ["--health-retries", "not in"]),
        ("run --health-retries 2 echo:1", ["no health check", "--health-http"]),
        ("run --strategy tight echo:1", ["--strategy", "spread, binpack, epvm"]),
        ("run --constraint zone=a echo:1", ["--constraint", "LABEL==VALUE"]),
        ("run --stop-grace 5 echo:1", ["--stop-grace", "10s"]),
        ("run", ["an image is needed", "goatctl run IMAGE"]),
        ("run --driver process", ["needs a program", "goatctl run --driver process"]),
        ("node ls --frobnicate", ["--frobnicate", "--help"]),
        ("node ls --timeout 0s", ["--timeout", "above zero"]),
        ("node ls -H ftp://m1", ["--address", "only a host"]),
        ("node ls -q -o json", ["--quiet", "--output"]),
        ("task ls --state runing", ["--state", "running"]),
        ("task logs web.1 -o json", ["no JSON", "-o json"]),
        ("service scale web many", ["REPLICAS", "many"]),
    ] {
        let ended = goatctl(&nobody, line).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{line}: {ended:?}");
        assert!(texts.iter().all(|text| ended.stderr.contains(text)), "{line}: {}", ended.stderr);
        assert!(ended.stderr.starts_with("error: "), "{line}: {}", ended.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn help_version_and_completion_need_no_manager() {
    let nobody = nobody().await;
    let help = goatctl(&nobody, "--help").await;
    assert!(help.lines().iter().any(|line| line.starts_with("Exit codes: 0 done")), "{help:?}");
    assert!(goatctl(&nobody, "version --client").await.stdout.starts_with("goatctl "));
    assert!(goatctl(&nobody, "version --client -o json").await.json()["version"].is_string());
    for shell in ["bash", "zsh", "fish"] {
        assert!(goatctl(&nobody, &format!("completion {shell}")).await.stdout.contains("transfer-leader"), "{shell}");
    }
}
