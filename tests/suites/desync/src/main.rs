//! The cases of the crate `http_desync_guardian`, one JSON object a line (`desync cases MANIFEST`), and its verdicts on request heads
//! in hexadecimal, one a line (`desync judge`).

use std::error::Error;
use std::fs;
use std::io;
use std::io::BufRead as _;
use std::process::Command;

use http_desync_guardian::http_token_utils::HttpToken;
use http_desync_guardian::request_analyzer::HttpRequestData;
use serde_json::Value;
use serde_json::json;
use yaml_rust2::Yaml;
use yaml_rust2::YamlLoader;

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1).as_deref() {
        Some("cases") => cases(&std::env::args().nth(2).ok_or("cases of which manifest?")?),
        Some("judge") => judge(),
        _ => Err("cases or judge".into()),
    }
}

fn judge() -> Result<(), Box<dyn Error>> {
    for line in io::stdin().lock().lines() {
        let line = line?;
        let bytes: Result<Vec<u8>, _> = (0..line.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(line.get(at..at + 2).unwrap_or(""), 16))
            .collect();
        let result = HttpRequestData::analyze_raw_request(HttpToken::from(bytes?.as_slice()));
        println!("{:?}", result.tier);
    }
    Ok(())
}

/// The files stand beside the source of the crate. Several checkouts share what was built, so it is told which one asks.
fn cases(manifest: &str) -> Result<(), Box<dyn Error>> {
    let said = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--manifest-path", manifest])
        .output()?;
    let metadata: Value = serde_json::from_slice(&said.stdout)?;
    let packages = metadata["packages"].as_array().ok_or("no packages")?;
    let ours = packages
        .iter()
        .find(|package| package["name"] == "http_desync_guardian")
        .ok_or("the crate is not there")?;
    let path = ours["manifest_path"].as_str().ok_or("no path")?;
    let mut files: Vec<_> = fs::read_dir(path.replace("Cargo.toml", "tests"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    files.sort();
    for file in files {
        for document in YamlLoader::load_from_str(&fs::read_to_string(&file)?)? {
            for case in document.as_vec().into_iter().flatten() {
                let text = |yaml: &Yaml| yaml.as_str().map_or_else(|| scalar(yaml), str::to_owned);
                let headers: Vec<_> = case["headers"]
                    .as_vec()
                    .into_iter()
                    .flatten()
                    .map(|field| (text(&field["name"]), text(&field["value"])))
                    .collect();
                println!(
                    "{}",
                    json!({ "name": text(&case["name"]), "uri": text(&case["uri"]), "method": text(&case["method"]),
                        "version": text(&case["version"]), "headers": headers })
                );
            }
        }
    }
    Ok(())
}

fn scalar(yaml: &Yaml) -> String {
    match yaml {
        Yaml::Integer(n) => n.to_string(),
        Yaml::Real(n) => n.clone(),
        Yaml::Boolean(b) => b.to_string(),
        _ => String::new(),
    }
}
