//! Makes Rust declarations of the installed `rocksdb/c.h`, and links the installed library.

use std::env;
use std::fs;
use std::path::PathBuf;

/// Functions that the crate `rocksdb` 0.20.1 binds, and that some supported release of RocksDB lacks or has with other
/// parameters: name, and number of parameters that the crate passes. The store calls none of them.
const UNSTEADY: [(&str, usize); 3] = [
    ("rocksdb_block_based_options_set_block_cache_compressed", 2),
    ("rocksdb_options_set_access_hint_on_compaction_start", 2),
    ("rocksdb_options_set_plain_table_factory", 5),
];

fn main() {
    let include = variable("ROCKSDB_INCLUDE_DIR").unwrap_or_else(|| "/usr/include".into());
    let header = PathBuf::from(include).join("rocksdb/c.h");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={}", header.display());
    let text = fs::read_to_string(&header).unwrap_or_else(|error| {
        panic!("{}: {error}; install librocksdb-dev, or set ROCKSDB_INCLUDE_DIR", header.display())
    });
    let mut builder = bindgen::Builder::default()
        .header(header.to_str().expect("the path is text"))
        .allowlist_item("rocksdb_.*")
        .ctypes_prefix("libc")
        .derive_debug(false)
        .layout_tests(false);
    for (name, expected) in UNSTEADY {
        println!("cargo:rustc-check-cfg=cfg(has_no_{name})");
        if parameters(&text, name) != Some(expected) {
            println!("cargo:rustc-cfg=has_no_{name}");
            builder = builder.blocklist_function(name);
        }
    }
    let bindings = builder.generate().expect("bindgen reads rocksdb/c.h; it needs libclang (libclang-dev)");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("bindings.rs");
    bindings.write_to_file(out).expect("the bindings are written");

    if let Some(dir) = variable("ROCKSDB_LIB_DIR") {
        println!("cargo:rustc-link-search=native={dir}");
    }
    println!("cargo:rustc-link-lib=dylib=rocksdb");
}

fn variable(name: &str) -> Option<String> {
    println!("cargo:rerun-if-env-changed={name}");
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The number of parameters of a function in the header; `None` if it is not declared. No parameter is a function itself.
fn parameters(header: &str, name: &str) -> Option<usize> {
    let (_, rest) = header.split_once(&format!(" {name}("))?;
    let (list, _) = rest.split_once(')')?;
    Some(list.split(',').count())
}
