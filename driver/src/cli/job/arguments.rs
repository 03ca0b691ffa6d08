//! The flags of `job run` as those of `buildctl build`, which runs in the cluster. Pure.

use super::args::BuildArgs;
use crate::manifest::{CONTEXT_DIRECTORY, SECRETS_DIRECTORY};
use crate::options::{csv_fields, csv_record};

/// Where the context and the Dockerfile come from, as the pod sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Inputs {
    /// Both in the upload, in these directories of it, and the Dockerfile's name in its own.
    Uploaded { context: String, dockerfile: String, filename: String },
    /// From a URL, perhaps with the Dockerfile's path there.
    Remote { url: String, filename: Option<String> },
    /// The context from a URL, and `Dockerfile` in the upload.
    RemoteWithDockerfile { url: String },
}

/// A secret of the build: its id, and its file's name in the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SecretFile {
    pub(super) id: String,
    pub(super) file: String,
}

impl Inputs {
    /// The arguments that say where they are.
    pub(super) fn arguments(&self) -> Vec<String> {
        let local = |name: &str, directory: &str| match directory {
            "" => format!("--local={name}={CONTEXT_DIRECTORY}"),
            directory => format!("--local={name}={CONTEXT_DIRECTORY}/{directory}"),
        };
        let (mut arguments, filename) = match self {
            Self::Uploaded { context, dockerfile, filename } => {
                let filename = (filename != "Dockerfile").then_some(filename);
                (vec![local("context", context), local("dockerfile", dockerfile)], filename)
            }
            Self::Remote { url, filename } => (vec![format!("--opt=context={url}")], filename.as_ref()),
            Self::RemoteWithDockerfile { url } => {
                let key = "--opt=dockerfilekey=dockerfile".to_owned();
                (vec![format!("--opt=context={url}"), local("dockerfile", ""), key], None)
            }
        };
        arguments.extend(filename.map(|filename| format!("--opt=filename={filename}")));
        arguments
    }
}

/// The arguments behind those of the inputs, or all that is wrong with the flags.
pub(super) fn arguments(
    flags: &BuildArgs,
    build_args: &[(String, String)],
    secrets: &[SecretFile],
) -> Result<Vec<String>, Vec<String>> {
    let mut errors = Vec::new();
    let mut out = Vec::new();
    let mut add = |flag: &str, value: String| out.push(format!("--{flag}={value}"));
    if let Some(target) = &flags.target {
        add("opt", format!("target={target}"));
    }
    if !flags.platform.is_empty() {
        add("opt", format!("platform={}", flags.platform.join(",")));
    }
    for (name, value) in build_args {
        add("opt", format!("build-arg:{name}={value}"));
    }
    for label in &flags.label {
        match named("--label", label) {
            Ok((name, value)) => add("opt", format!("label:{name}={}", value.unwrap_or_default())),
            Err(problem) => errors.push(problem),
        }
    }
    for opt in &flags.opt {
        match opt.split_once('=') {
            Some((key, _)) if !key.is_empty() => add("opt", opt.clone()),
            _ => errors.push(format!("--opt `{opt}` is not of the form KEY=VALUE")),
        }
    }
    match outputs(flags) {
        Ok(outputs) => outputs.into_iter().for_each(|output| add("output", output)),
        Err(found) => errors.extend(found),
    }
    for (flag, theirs, given) in
        [("--cache-to", "export-cache", &flags.cache_to), ("--cache-from", "import-cache", &flags.cache_from)]
    {
        for cache in given {
            match self::cache(cache) {
                Ok(cache) => add(theirs, cache),
                Err(problem) => errors.push(format!("{flag} `{cache}`: {problem}")),
            }
        }
    }
    for secret in secrets {
        add("secret", joined(&[format!("id={}", secret.id), format!("src={SECRETS_DIRECTORY}/{}", secret.file)]));
    }
    if flags.no_cache {
        out.push("--no-cache".to_owned());
    }
    if errors.is_empty() { Ok(out) } else { Err(errors) }
}

/// Names and values of `--build-arg`, or all that is wrong with them.
pub(super) fn build_args(
    given: &[String],
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Vec<(String, String)>, Vec<String>> {
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for given in given {
        match named("--build-arg", given) {
            // As buildx: a variable that is not set leaves the Dockerfile's own value.
            Ok((name, value)) => {
                let value = value.map(str::to_owned).or_else(|| variable(name));
                found.extend(value.map(|value| (name.to_owned(), value)));
            }
            Err(problem) => errors.push(problem),
        }
    }
    if errors.is_empty() { Ok(found) } else { Err(errors) }
}

/// `NAME=VALUE`, or `NAME` alone.
fn named<'a>(flag: &str, given: &'a str) -> Result<(&'a str, Option<&'a str>), String> {
    let (name, value) = given.split_once('=').map_or((given, None), |(name, value)| (name, Some(value)));
    if name.is_empty() {
        return Err(format!("{flag} `{given}` has no name: accepted are NAME=VALUE and NAME"));
    }
    Ok((name, value))
}

/// The names of images and caches in the registries that the build reads and writes, as far as the flags tell.
pub(super) fn references(flags: &BuildArgs) -> Vec<String> {
    let mut found = flags.tag.clone();
    let values = flags.output.iter().chain(&flags.cache_from).chain(&flags.cache_to);
    for value in values {
        let fields = csv_fields(value).unwrap_or_default();
        let named = fields.iter().filter_map(|field| field.split_once('='));
        let names = named.filter(|(key, _)| ["name", "ref"].contains(&key.to_lowercase().as_str()));
        found.extend(names.flat_map(|(_, names)| names.split(',').map(str::to_owned)));
        // A bare name is buildx's short form.
        found.extend(fields.first().filter(|only| fields.len() == 1 && !only.contains('=')).cloned());
    }
    for (key, value) in flags.opt.iter().filter_map(|opt| opt.split_once('=')) {
        if key == "source" {
            found.push(value.to_owned());
        }
        found.extend(value.strip_prefix("docker-image://").map(str::to_owned));
    }
    found
}

/// One `--output` of `buildctl` for each result, with the names of `--tag` in it.
fn outputs(flags: &BuildArgs) -> Result<Vec<String>, Vec<String>> {
    let mut errors = Vec::new();
    let mut outputs = Vec::new();
    for given in &flags.output {
        match output(given, flags) {
            Ok(Some(output)) => outputs.push(output),
            Ok(None) => {}
            Err(problem) => errors.push(format!("--output `{given}`: {problem}")),
        }
    }
    if flags.output.is_empty() {
        if !flags.tag.is_empty() {
            outputs.push(image(&flags.tag, flags.push, &[]));
        } else if flags.push {
            errors.push("--push needs a name to push by: --tag NAME".to_owned());
        }
    }
    if errors.is_empty() { Ok(outputs) } else { Err(errors) }
}

const STAYS: &str = "the result would stay in the Job's pod, which goes";

const ACCEPTED_OUTPUTS: &str = "accepted are type=image, type=registry and type=cacheonly";

/// `None`: nothing is to come of it.
fn output(given: &str, flags: &BuildArgs) -> Result<Option<String>, String> {
    let fields = csv_fields(given).map_err(|error| error.to_string())?;
    let (mut kind, mut names, mut push, mut rest) = (None, flags.tag.clone(), flags.push, Vec::new());
    let is_alone = fields.len() == 1;
    for field in fields {
        let Some((key, value)) = field.split_once('=') else {
            // A bare name is buildx's short form of a directory.
            let problem = if is_alone { STAYS.to_owned() } else { format!("`{field}` is not of the form KEY=VALUE") };
            return Err(format!("{problem}: {ACCEPTED_OUTPUTS}"));
        };
        match key.trim().to_lowercase().as_str() {
            "type" => kind = Some(value.to_owned()),
            "name" => names = value.split(',').map(str::to_owned).collect(),
            "push" => match value {
                "true" | "1" => push = true,
                "false" | "0" => {}
                other => return Err(format!("`{other}` is no value of push: accepted are true and false")),
            },
            key => rest.push(format!("{key}={value}")),
        }
    }
    match kind.as_deref() {
        Some("cacheonly") => Ok(None),
        Some("registry") if names.is_empty() => Err("it has no name to push by: --tag NAME".to_owned()),
        Some("registry") => Ok(Some(image(&names, true, &rest))),
        Some("image") if push && names.is_empty() => Err("it has no name to push by: --tag NAME".to_owned()),
        Some("image") => Ok(Some(image(&names, push, &rest))),
        Some("local" | "tar" | "oci" | "docker") => Err(format!("{STAYS}: {ACCEPTED_OUTPUTS}")),
        Some(other) => Err(format!("`{other}` is no type of output: {ACCEPTED_OUTPUTS}")),
        None => Err(format!("it has no type: {ACCEPTED_OUTPUTS}")),
    }
}

fn image(names: &[String], push: bool, rest: &[String]) -> String {
    let mut fields = vec!["type=image".to_owned()];
    if !names.is_empty() {
        fields.push(format!("name={}", names.join(",")));
    }
    if push {
        fields.push("push=true".to_owned());
    }
    fields.extend_from_slice(rest);
    joined(&fields)
}

const ACCEPTED_CACHES: &str = "accepted are a name, type=registry, type=inline, type=s3 and type=azblob";

/// What nobody else may read, and a manifest shows to everybody who may list Jobs.
const CONFIDENTIAL: [&str; 5] =
    ["secret_access_key", "session_token", "access_key_id", "account_key", "connection_string"];

fn cache(given: &str) -> Result<String, String> {
    let fields = csv_fields(given).map_err(|error| error.to_string())?;
    if fields.len() == 1 && !given.contains('=') {
        return Ok(joined(&["type=registry".to_owned(), format!("ref={given}")]));
    }
    let (mut kind, mut has_reference) = (None, false);
    for field in &fields {
        let Some((key, value)) = field.split_once('=') else {
            return Err(format!("`{field}` is not of the form KEY=VALUE: {ACCEPTED_CACHES}"));
        };
        let key = key.to_lowercase();
        match key.as_str() {
            "type" => kind = Some(value),
            "ref" => has_reference = !value.is_empty(),
            _ => {}
        }
        if CONFIDENTIAL.contains(&key.as_str()) {
            return Err(format!(
                "`{key}` would stand in the Job's manifest for others to read: give the Job's service account the rights \
                 (--driver-opt serviceaccount=NAME)"
            ));
        }
    }
    match kind {
        Some("registry") if !has_reference => Err("it has no ref, as in type=registry,ref=NAME".to_owned()),
        Some("registry" | "inline" | "s3" | "azblob") => Ok(joined(&fields)),
        Some("local") => Err(format!("it would stay in the Job's pod, which goes: {ACCEPTED_CACHES}")),
        Some("gha") => Err(format!("its tokens would stand in the Job's manifest: {ACCEPTED_CACHES}")),
        Some(other) => Err(format!("`{other}` is no type of cache: {ACCEPTED_CACHES}")),
        None => Err(format!("it has no type: {ACCEPTED_CACHES}")),
    }
}

/// One record, with quotes only where they are needed: people read it in manifests.
fn joined(fields: &[String]) -> String {
    let field = |field: &String| {
        if field.contains([',', '"', '\n']) { csv_record(std::slice::from_ref(field)) } else { field.clone() }
    };
    fields.iter().map(field).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;
