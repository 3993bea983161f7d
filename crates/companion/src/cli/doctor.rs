//! `pixart doctor`.

use std::process::ExitCode;

use clap::Args;
use pixart_companion::device::DeviceSpec;
use pixart_companion::{doctor, self_test};
use pixart_verify::report;

use super::{print_json, print_line};

#[derive(Args)]
pub(crate) struct DoctorArgs {
    /// Compare this device with the CPU instead: PASS or FAIL per operation, exit status 1 if one fails.
    #[arg(long)]
    device: Option<DeviceSpec>,
    /// Print JSON: one object, or one per operation.
    #[arg(long)]
    json: bool,
}

impl DoctorArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self.device {
            None => list_devices(self.json),
            Some(device) => self_test(device, self.json),
        }
    }
}

fn list_devices(json: bool) -> anyhow::Result<ExitCode> {
    let report = doctor::report();
    match json {
        true => print_json(&report)?,
        false => print_line(doctor::text(&report).trim_end())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn self_test(device: DeviceSpec, json: bool) -> anyhow::Result<ExitCode> {
    let rows = self_test::run(device)?;
    if !json {
        print_line(&report::header())?;
    }
    for row in &rows {
        match json {
            true => print_json(row)?,
            false => print_line(&report::line(row))?,
        }
    }
    tracing::info!("{}", report::summary(&rows));
    Ok(if report::passed(&rows) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
