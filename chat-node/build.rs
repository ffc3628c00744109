//! How the program is built, where that differs from what Cargo does by itself.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // They are compiled in; a new one would go unnoticed.
    println!("cargo::rerun-if-changed=migrations");
    let of_target = |name: &str| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    let is_static = of_target("FEATURE").split(',').any(|feature| feature == "crt-static");
    if is_static && of_target("OS") == "linux" && of_target("ENV") == "gnu" {
        // A static program is moved to its address by a list of places, which takes 400 KB less when it is packed (DT_RELR, which needs
        // glibc 2.36).
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
