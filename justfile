# What developers do every day. `just --list` shows it.

# All checks; writes nothing
verify:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    cargo test --locked -p goat-tests --test tidy
    cargo test --workspace --locked
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

# Formats, and mends what clippy can mend
fix:
    cargo fmt --all
    cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged

# Builds and tests as CI does
test *args:
    tests/run {{args}}

# The simulated cluster, one seed: just sim seed=7
sim seed="1":
    GOAT_SIM_SEED={{trim_start_match(seed, "seed=")}} cargo test --locked -p goat-core --test core simulation -- --nocapture

# A local cluster with echo on it
cluster *args:
    testcluster/run {{args}}
