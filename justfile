# What developers do every day. `just --list` shows it.

# All checks; changes nothing but what is built
verify:
    cargo fmt --all --check
    # Sizes, arrows between crates, words that stay out: in seconds, so before what takes minutes
    cargo test --locked -p goat-tests --lib --test tidy
    cargo clippy --workspace --all-targets --locked -- -D warnings
    # The end-to-end tests run these programs; cargo test does not build all of them
    testcluster/build
    cargo test --workspace --locked
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

# Formats, and mends what clippy can mend
fix:
    cargo fmt --all
    cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged

# Builds and tests as CI does
test *args:
    tests/run {{ args }}

# Debian packages, in target/deb; and their test on a new root file system, with systemd (root, Docker)
deb *args:
    deploy/deb/build {{ args }}

test-deb:
    tests/package

# The README's two commands on new machines, Debian 12 and 13, as root and as a user (root, debootstrap)
fresh *args:
    tests/fresh {{ args }}

# The simulated cluster, one seed: just sim seed=7
sim seed="1":
    cargo run --locked --profile sim -p goat-simulator -- --seed {{ trim_start_match(seed, "seed=") }}

# A planted bug, and which layer of tests finds it: just mutate fsync-skipped
mutate *names:
    tests/mutate {{ names }}

# Managers and workers simulated, one seed, showing what happens: just clustersim seed=7
clustersim seed="1":
    cargo run --locked -p goat-clustersim -- --seed {{ trim_start_match(seed, "seed=") }} --trace

# A local cluster with echo on it
cluster *args:
    testcluster/run {{ args }}
