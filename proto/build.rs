//! Compiles the `.proto` files without a system `protoc`, and writes `Debug` by
//! hand for every message that carries a field marked `csi_secret`, so that no
//! secret can reach a log by way of `{:?}`.

use std::{env, error::Error, fmt::Write as _, fs, path::PathBuf};

use protox::{
    Compiler,
    prost::Message as _,
    prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor},
};

const FILES: [&str; 2] = ["csi/v1/csi.proto", "pluginregistration/v1/api.proto"];
const SECRET_OPTION: &str = "csi.v1.csi_secret";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=build.rs");

    let mut compiler = Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    // Decoded anew: the plain descriptor types drop the extension that marks secrets.
    let pool = DescriptorPool::decode(compiler.encode_file_descriptor_set().as_slice())?;
    let secret = messages_with_secrets(&pool)?;

    tonic_prost_build::configure()
        .skip_debug(secret.iter().map(|(message, _)| format!(".{}", message.full_name())))
        .compile_fds(prost_types_of(&compiler)?)?;

    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("csi_secrets.rs"), debug_impls(&secret)?)?;
    Ok(())
}

fn prost_types_of(compiler: &Compiler) -> Result<prost_types::FileDescriptorSet, Box<dyn Error>> {
    Ok(prost_types::FileDescriptorSet::decode(compiler.encode_file_descriptor_set().as_slice())?)
}

type Secret = (MessageDescriptor, Vec<FieldDescriptor>);

/// Every message with at least one secret field, and those fields.
fn messages_with_secrets(pool: &DescriptorPool) -> Result<Vec<Secret>, Box<dyn Error>> {
    let option = pool.get_extension_by_name(SECRET_OPTION).ok_or("csi_secret is not declared")?;
    let is_secret = |field: &FieldDescriptor| field.options().get_extension(&option).as_bool() == Some(true);

    let found: Vec<Secret> = pool
        .all_messages()
        .map(|message| {
            let fields = message.fields().filter(is_secret).collect::<Vec<_>>();
            (message, fields)
        })
        .filter(|(_, fields)| !fields.is_empty())
        .collect();
    if found.is_empty() {
        return Err("no field carries csi_secret: the option was lost on the way".into());
    }
    Ok(found)
}

/// `Debug` for each of these messages, and a list of samples for the tests.
///
/// The shapes that do not occur in CSI (a secret inside a nested message, inside a
/// oneof, or not a map of strings) stop the build instead of printing something.
fn debug_impls(secret: &[Secret]) -> Result<String, Box<dyn Error>> {
    let mut code = String::new();
    let mut samples = String::new();
    for (message, secrets) in secret {
        let name = message.name();
        if message.parent_message().is_some() || message.oneofs().any(|oneof| !oneof.is_synthetic()) {
            return Err(format!("{}: secrets in this shape are not handled", message.full_name()).into());
        }
        writeln!(code, "impl ::core::fmt::Debug for {name} {{")?;
        writeln!(code, "    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{")?;
        write!(code, "        f.debug_struct({name:?})")?;
        for field in message.fields() {
            if secrets.contains(&field) {
                write!(code, ".field({:?}, &format_args!(\"***\"))", field.name())?;
            } else {
                write!(code, ".field({:?}, &self.r#{})", field.name(), field.name())?;
            }
        }
        writeln!(code, ".finish()\n    }}\n}}")?;

        for field in secrets {
            if !field.is_map() || !is_string_map(field) {
                return Err(format!("{}: only maps of strings are handled", field.full_name()).into());
            }
            writeln!(
                samples,
                "    ({:?}, format!(\"{{:?}}\", {name} {{ {}: secret.clone(), ..Default::default() }})),",
                field.full_name(),
                field.name(),
            )?;
        }
    }
    writeln!(code, "/// The Debug text of one message per secret field, with `secret` in that field.")?;
    writeln!(code, "#[cfg(test)]")?;
    writeln!(code, "pub(crate) fn debug_of_every_secret(")?;
    writeln!(code, "    secret: &::std::collections::HashMap<String, String>,")?;
    writeln!(code, ") -> Vec<(&'static str, String)> {{\n    vec![\n{samples}    ]\n}}")?;
    Ok(code)
}

fn is_string_map(field: &FieldDescriptor) -> bool {
    matches!(field.kind(), Kind::Message(entry)
        if entry.map_entry_key_field().kind() == Kind::String
        && entry.map_entry_value_field().kind() == Kind::String)
}
