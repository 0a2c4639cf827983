//! The documented config file of the package: whole, readable, and true about defaults.

use goat_manager::config::Options;
use goat_system::config_file::Documented;

#[test]
fn the_file_names_every_option_explains_it_and_is_true_about_defaults() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/config/manager.toml");
    Documented::verify(path.as_ref(), "data_dir = \"/var/lib/goat/manager\"", Options::into_config);
}
