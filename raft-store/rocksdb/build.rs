//! Finds the installed RocksDB and compares `src/ffi.rs` with its header: a function that the header lacks, or declares
//! otherwise, ends the build here and is named, rather than corrupt memory later.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `ROCKSDB_INCLUDE_DIR` | the directory with `rocksdb/c.h`; else the compiler's own directories |
//! | `ROCKSDB_LIB_DIR` | the directory with `librocksdb.so`; else the linker's own directories |

use std::path::{Path, PathBuf};
use std::{env, fs};

const DECLARATIONS: &str = "src/ffi.rs";
const HEADER: &str = "rocksdb/c.h";
/// Where Debian's librocksdb-dev puts it.
const SYSTEM_INCLUDE_DIR: &str = "/usr/include";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={DECLARATIONS}");
    for variable in ["ROCKSDB_INCLUDE_DIR", "ROCKSDB_LIB_DIR"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let include_dir = env::var_os("ROCKSDB_INCLUDE_DIR").map(PathBuf::from);
    let header = include_dir.as_deref().unwrap_or(Path::new(SYSTEM_INCLUDE_DIR)).join(HEADER);
    if header.exists() {
        // Another release of RocksDB is compared anew.
        println!("cargo:rerun-if-changed={}", header.display());
    }
    let declarations = fs::read_to_string(DECLARATIONS).expect("it is part of the crate");
    compare(&functions(&declarations), include_dir.as_deref());
    if let Some(dir) = env::var_os("ROCKSDB_LIB_DIR") {
        println!("cargo:rustc-link-search=native={}", Path::new(&dir).display());
    }
    println!("cargo:rustc-link-lib=dylib=rocksdb");
}

/// A function as C declares it.
struct Function {
    name: String,
    prototype: String,
}

/// The functions of the `extern "C"` block.
fn functions(rust: &str) -> Vec<Function> {
    let (_, block) = rust.split_once("unsafe extern \"C\" {").expect("ffi.rs has one block of functions");
    let (block, _) = block.split_once("\n}").expect("the block ends");
    let code: String = block.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    code.split(';').filter(|text| !text.trim().is_empty()).map(function).collect()
}

/// `pub(crate) fn NAME(PARAMETER: TYPE, ...) -> TYPE`.
fn function(rust: &str) -> Function {
    let (_, rust) = rust.split_once("fn ").unwrap_or_else(|| panic!("{DECLARATIONS}: no function in {rust:?}"));
    let (name, rust) = rust.split_once('(').expect("a function has parameters");
    let (parameters, result) = rust.split_once(')').expect("its parameters end");
    let parameters: Vec<_> =
        parameters.split(',').filter_map(|parameter| parameter.split_once(':')).map(|(_, kind)| c_type(kind)).collect();
    let parameters = if parameters.is_empty() { "void".to_owned() } else { parameters.join(", ") };
    let result = result.split_once("->").map_or_else(|| "void".to_owned(), |(_, kind)| c_type(kind));
    Function { name: name.to_owned(), prototype: format!("{result} {name}({parameters});") }
}

/// The type in C. Pointers are read from the outside to the inside in Rust, and the other way round in C.
fn c_type(rust: &str) -> String {
    let rust = rust.trim();
    if let Some(target) = rust.strip_prefix("*mut ") {
        return format!("{}*", c_type(target));
    }
    if let Some(target) = rust.strip_prefix("*const ") {
        return format!("{} const*", c_type(target));
    }
    match rust {
        "c_void" => "void",
        "c_char" => "char",
        "c_uchar" => "unsigned char",
        "c_int" => "int",
        "c_uint" => "unsigned int",
        "usize" => "size_t",
        "u64" => "uint64_t",
        opaque if opaque.starts_with("rocksdb_") => opaque,
        unknown => panic!("{DECLARATIONS}: build.rs knows no C type for {unknown:?}"),
    }
    .to_owned()
}

/// Has the C compiler look at both.
fn compare(functions: &[Function], include_dir: Option<&Path>) {
    let mut c = format!("#include <stddef.h>\n#include <stdint.h>\n#include <{HEADER}>\n");
    // The address of a function that is not declared is an error, and so are two declarations that differ.
    for Function { name, prototype } in functions {
        c.push_str(&format!("void *const address_of_{name} = (void *)&{name};\n{prototype}\n"));
    }
    let file = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("compare.c");
    fs::write(&file, c).expect("cargo's directory can be written");
    let mut build = cc::Build::new();
    build.warnings(false).includes(include_dir);
    let mut command = build.get_compiler().to_command();
    let output = command.arg("-fsyntax-only").arg(&file).output();
    let output = output.unwrap_or_else(|error| panic!("the C compiler cannot be started: {error}; install gcc"));
    if output.status.success() {
        return;
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let place = include_dir.map_or_else(|| "the compiler's directories".to_owned(), |dir| dir.display().to_string());
    if said.contains(&format!("{HEADER}: No such file")) || said.contains(&format!("'{HEADER}' file not found")) {
        panic!("{HEADER} is not in {place}: install librocksdb-dev, or set ROCKSDB_INCLUDE_DIR and ROCKSDB_LIB_DIR");
    }
    panic!(
        "the RocksDB in {place} does not have the functions that {DECLARATIONS} declares; \
         docs/decisions/0011-rocksdb-binding.md says which releases do:\n{said}"
    );
}
