//! The documented config file of the package: whole, readable, and true about defaults.

use goat_system::config_file::Documented;
use goat_worker::config::Options;

#[test]
fn the_file_names_every_option_explains_it_and_is_true_about_defaults() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/config/worker.toml");
    Documented::verify(path.as_ref(), "data_dir = \"/var/lib/goat/worker\"", Options::into_config);
}
