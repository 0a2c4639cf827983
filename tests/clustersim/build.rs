//! Makes the binaries' own `getrandom` known to whoever looks it up by its name at run time (see `interpose`).

fn main() {
    println!("cargo:rustc-link-arg=-Wl,--export-dynamic-symbol=getrandom");
    println!("cargo:rerun-if-changed=build.rs");
}
