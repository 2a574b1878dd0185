//! `verifier`: what the verifier makes of each program, and which older kernels would refuse it.
//!
//! The dataplane is opened as it ships, so that maps and constants are those of a real node. Each program of its
//! object is then verified once more over the very same maps, with the verifier's statistics asked for.

mod kernels;
mod log;
mod scan;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context, bail};
use aya_obj::btf::BtfFeatures;
use aya_obj::generated::{bpf_attach_type, bpf_prog_type};
use aya_obj::{Object, ProgramSection};
use clap::Args;
use lockstep_cluster_tests::run::Run;
use serde::Serialize;

use crate::bpf::{self, ToLoad};
use crate::dataplane::bed::Bed;
use crate::lockstep::{Family, Hook};
use crate::report::Machine;
use kernels::{ASKED, Version};
use scan::Features;

/// `verifier`
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Also write the report here, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Flows of the dataplane that is opened: the fewer, the less memory is cleared for nothing.
const MAX_FLOWS: u32 = 1024;
/// linux/bpf.h
const XDP_HAS_FRAGS: u32 = 1 << 5;

/// One program.
#[derive(Debug, Serialize)]
struct Program {
    name: String,
    r#type: &'static str,
    /// With every function that it calls.
    instructions: usize,
    #[serde(flatten)]
    verified: log::Statistics,
    /// Of the loaded program, bytes: after the verifier's own changes, and as machine code. None: not loaded.
    xlated_bytes: Option<u32>,
    jited_bytes: Option<u32>,
    /// As many as above, or the verifier was shown something else when the program was loaded.
    verified_when_loaded: Option<u32>,
    /// Since which kernel everything is there that its instructions use.
    since: Version,
}

/// A kernel, and what it lacks.
#[derive(Debug, Serialize)]
struct Kernel {
    version: Version,
    refuses: Vec<Lacking>,
}

/// Something that a kernel lacks.
#[derive(Debug, Serialize)]
struct Lacking {
    feature: String,
    /// The first kernel with it; none: younger than this table.
    since: Option<Version>,
    /// Programs, maps, or the loader.
    used_by: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    programs: Vec<Program>,
    kernels: Vec<Kernel>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let run = Run::begin()?;
    // With XDP the tc programs are loaded as well.
    let hook = Hook::Xdp;
    let bed = Bed::create(&run, hook)?;
    let report = bed.node.run(|| {
        let before: BTreeSet<u32> = ids()?;
        let dataplane = bed.setting(hook, &Family::ALL, MAX_FLOWS).open(&bed.pins)?;
        let loaded: Vec<u32> = ids()?.difference(&before).copied().collect();
        let report = look(&loaded);
        dataplane.detach_and_unpin().context("the dataplane cannot be removed")?;
        report
    })?;
    print(&report);
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report).context("cannot encode the report")?;
        std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn ids() -> anyhow::Result<BTreeSet<u32>> {
    Ok(bpf::program_ids().context("the kernel's programs cannot be listed")?.into_iter().collect())
}

/// The programs of the object, over the maps of those that are loaded.
fn look(loaded: &[u32]) -> anyhow::Result<Report> {
    let mut infos = BTreeMap::new();
    let mut maps: BTreeMap<String, OwnedFd> = BTreeMap::new();
    for id in loaded {
        // Gone meanwhile: another process's.
        let Ok(program) = bpf::program_by_id(*id) else { continue };
        let info = bpf::program_info(program.as_fd()).context("a program cannot be looked at")?;
        infos.insert(bpf::name_of(&info.name), info);
        for map in bpf::maps_of(program.as_fd()).context("a program's maps cannot be listed")? {
            let map = bpf::map_by_id(map).context("a map cannot be opened")?;
            let info = bpf::map_info(map.as_fd()).context("a map cannot be looked at")?;
            maps.insert(bpf::name_of(&info.name), map);
        }
    }
    let mut object = Object::parse(lockstep_loader::OBJECT).context("the object cannot be read")?;
    let types = object
        .fixup_and_sanitize_btf(&BtfFeatures::new(true, true, true, true, true, true, true, true))
        .context("the object's types cannot be mended")?
        .context("the object has no types")?
        .to_bytes();
    let types = bpf::load_btf(&types).context("the object's types cannot be loaded")?;
    let definitions: Vec<(String, aya_obj::Map)> = object.maps.drain().collect();
    let mut features: BTreeMap<String, Features> = BTreeMap::new();
    for (name, map) in &definitions {
        features.insert(format!("map {name}"), of_map(map));
    }
    let descriptors = definitions.iter().filter_map(|(name, map)| {
        let fd = maps.get(&kernel_name(name))?;
        Some((name.as_str(), fd.as_raw_fd(), map))
    });
    let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    object
        .relocate_maps(descriptors, &text)
        .context("the maps of the loaded programs are not the object's")?;
    object.relocate_calls(&text).context("the object's functions cannot be linked")?;

    let mut programs = Vec::new();
    for (name, program) in &object.programs {
        let function = object
            .functions
            .get(&program.function_key())
            .with_context(|| format!("the program {name} has no function"))?;
        let (r#type, kind, attach, flags) = kind(name, &program.section)?;
        let to_load = ToLoad {
            kind: kind as u32,
            attach,
            flags,
            license: &program.license,
            instructions: &function.instructions,
            btf: types.as_fd(),
            functions: &function.func_info.func_info_bytes(),
            function_size: function.func_info_rec_size,
        };
        let log = bpf::verify(&to_load)
            .map_err(|(error, log)| anyhow::anyhow!("{error}; the verifier says:\n{log}"))
            .with_context(|| format!("{name} is refused"))?;
        let used = scan::features(&function.instructions);
        let info = infos.get(&kernel_name(name));
        programs.push(Program {
            name: name.clone(),
            r#type,
            instructions: function.instructions.len(),
            verified: log::parse(&log).with_context(|| name.clone())?,
            xlated_bytes: info.map(|info| info.xlated_prog_len),
            jited_bytes: info.map(|info| info.jited_prog_len),
            verified_when_loaded: info.map(|info| info.verified_insns),
            since: used.values().flatten().copied().max().unwrap_or(Version(3, 19)),
        });
        features.insert(name.clone(), used);
    }
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    let has_xdp = programs.iter().any(|program| program.r#type == "xdp");
    let loader = kernels::LOADER.iter().chain(kernels::LOADER_XDP.iter().filter(|_| has_xdp));
    features.insert(
        "the loader".into(),
        loader.map(|(what, since)| ((*what).to_owned(), Some(*since))).collect(),
    );
    let kernels = ASKED.iter().map(|version| lacking(*version, &features)).collect();
    Ok(Report { machine: Machine::read()?, programs, kernels })
}

/// As the kernel keeps names.
fn kernel_name(name: &str) -> String {
    name.chars().take(15).collect()
}

fn kind(name: &str, section: &ProgramSection) -> anyhow::Result<(&'static str, bpf_prog_type, u32, u32)> {
    match section {
        ProgramSection::SchedClassifier => Ok(("tc", bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS, 0, 0)),
        ProgramSection::Xdp { frags, .. } => {
            let flags = if *frags { XDP_HAS_FRAGS } else { 0 };
            Ok(("xdp", bpf_prog_type::BPF_PROG_TYPE_XDP, bpf_attach_type::BPF_XDP as u32, flags))
        }
        _ => bail!("the program {name} is neither for XDP nor for tc"),
    }
}

fn of_map(map: &aya_obj::Map) -> Features {
    let mut found = Features::new();
    match kernels::map_type(map.map_type()) {
        Some((what, since)) => found.insert(what.into(), Some(since)),
        None => found.insert(format!("map type {}", map.map_type()), None),
    };
    for (flag, what, since) in kernels::MAP_FLAGS {
        if map.map_flags() & flag != 0 {
            found.insert((*what).into(), Some(*since));
        }
    }
    found
}

fn lacking(version: Version, features: &BTreeMap<String, Features>) -> Kernel {
    let mut refuses: BTreeMap<String, Lacking> = BTreeMap::new();
    for (user, used) in features {
        for (feature, since) in used.iter().filter(|(_, since)| since.is_none_or(|since| since > version)) {
            let entry = refuses.entry(feature.clone()).or_insert_with(|| Lacking {
                feature: feature.clone(),
                since: *since,
                used_by: Vec::new(),
            });
            entry.used_by.push(user.clone());
        }
    }
    Kernel { version, refuses: refuses.into_values().collect() }
}

fn print(report: &Report) {
    println!(
        "{:<20} {:<5} {:>6} {:>9} {:>8} {:>8} {:>12} {:>7} {:>7}  since",
        "program", "type", "insns", "verified", "states", "peak", "stack", "xlated", "jited"
    );
    let or_none = |size: Option<u32>| size.map_or_else(|| "-".into(), |size| size.to_string());
    for program in &report.programs {
        let stack: Vec<String> = program.verified.stack_bytes.iter().map(u64::to_string).collect();
        println!(
            "{:<20} {:<5} {:>6} {:>9} {:>8} {:>8} {:>12} {:>7} {:>7}  {}",
            program.name,
            program.r#type,
            program.instructions,
            program.verified.verified_instructions,
            program.verified.total_states,
            program.verified.peak_states,
            stack.join("+"),
            or_none(program.xlated_bytes),
            or_none(program.jited_bytes),
            program.since
        );
    }
    for kernel in &report.kernels {
        if kernel.refuses.is_empty() {
            println!("\nLinux {}: has everything that is used", kernel.version);
            continue;
        }
        println!("\nLinux {} would refuse:", kernel.version);
        for lacking in &kernel.refuses {
            let since = lacking.since.map_or_else(|| "not in the table".into(), |since| since.to_string());
            println!("  {} ({since}): {}", lacking.feature, lacking.used_by.join(", "));
        }
    }
}
