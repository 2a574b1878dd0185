//! Attaching programs to interfaces. Each attachment is a pinned link: adopting one replaces its program by one
//! update, so that a packet meets the old program or the new one, never none.

use aya::Ebpf;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::xdp::XdpLink;
use aya::programs::{LinkOrder, ProgramError, TcAttachType, Xdp, XdpMode};
use lockstep_abi::map as names;

use crate::error::DataplaneError;
use crate::hook::{Choice, Hook, HookReport, driver_of};
use crate::interfaces::Interface;
use crate::pins::{Attached, LinkPin, Pins};
use crate::programs::{classifier, with_causes, xdp};

/// Attaches at tc everywhere, then at XDP where it was chosen, and takes XDP away where it was not. In the order of
/// the interfaces, where it ended.
pub(crate) fn attach(
    ebpf: &mut Ebpf,
    pins: &Pins,
    interfaces: &[Interface],
    choices: &[Choice],
) -> Result<Vec<HookReport>, DataplaneError> {
    for interface in interfaces {
        attach_tc(ebpf, pins, interface)?;
    }
    let mut reports = Vec::new();
    for (interface, choice) in interfaces.iter().zip(choices) {
        reports.push(attach_xdp(ebpf, pins, interface, choice)?);
    }
    Ok(reports)
}

fn attach_tc(ebpf: &mut Ebpf, pins: &Pins, interface: &Interface) -> Result<(), DataplaneError> {
    let entry = classifier(ebpf, names::PROGRAM_TC)?;
    let pin = pins.link(&interface.name, Attached::Tc);
    let failed = |error: &dyn std::error::Error| refused(interface, error);
    if let Some(link) = pin.usable(interface.index)? {
        let link = SchedClassifierLink::try_from(FdLink::from(link)).map_err(|error| failed(&error))?;
        let id = entry.attach_to_link(link).map_err(|error| failed(&error))?;
        // Taken out of the program's keeping, so that its end does not detach; the pin holds it.
        drop(entry.take_link(id).map_err(|error| failed(&error))?);
        return Ok(());
    }
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = entry
        .attach_with_options(&interface.name, TcAttachType::Ingress, options)
        .map_err(|error| failed(&error))?;
    let link = entry.take_link(id).map_err(|error| failed(&error))?;
    let link = FdLink::try_from(link).map_err(|error| failed(&error))?;
    link.pin(&pin.path).map_err(|error| failed(&error))?;
    Ok(())
}

fn attach_xdp(
    ebpf: &mut Ebpf,
    pins: &Pins,
    interface: &Interface,
    choice: &Choice,
) -> Result<HookReport, DataplaneError> {
    let report = |hook, why: String| HookReport { interface: interface.name.clone(), hook, why };
    let wanted = match choice.hook {
        Hook::Xdp => Some((Attached::Xdp, XdpMode::Driver)),
        Hook::XdpGeneric => Some((Attached::XdpGeneric, XdpMode::Skb)),
        Hook::Auto | Hook::Tc => None,
    };
    for at in [Attached::Xdp, Attached::XdpGeneric] {
        let pin = pins.link(&interface.name, at);
        if wanted.is_none_or(|(wanted, _)| wanted != at) && pin.index()?.is_some() {
            pin.detach()?;
        }
    }
    let Some((at, mode)) = wanted else { return Ok(report(Hook::Tc, choice.why.clone())) };
    let pin = pins.link(&interface.name, at);
    let usable = pin.usable(interface.index)?;
    match place(xdp(ebpf, names::PROGRAM_XDP)?, &pin, usable, interface, mode) {
        Ok(()) => Ok(report(choice.hook, choice.why.clone())),
        Err(error) if choice.may_fall_back => {
            Ok(report(Hook::Tc, format!("{}, but it refused: {error}", choice.why)))
        }
        Err(error) => Err(DataplaneError::Attach {
            interface: interface.name.clone(),
            reason: not_native(interface, choice.hook, &error),
        }),
    }
}

fn place(
    entry: &mut Xdp,
    pin: &LinkPin,
    usable: Option<PinnedLink>,
    interface: &Interface,
    mode: XdpMode,
) -> Result<(), String> {
    let refused = |error: ProgramError| with_causes(&error);
    if let Some(link) = usable {
        let link = XdpLink::try_from(FdLink::from(link)).map_err(|error| with_causes(&error))?;
        let id = entry.attach_to_link(link).map_err(refused)?;
        drop(entry.take_link(id).map_err(refused)?);
        return Ok(());
    }
    let id = entry.attach_to_if_index(interface.index, mode).map_err(refused)?;
    let link = entry.take_link(id).map_err(refused)?;
    let link = FdLink::try_from(link).map_err(|error| with_causes(&error))?;
    link.pin(&pin.path).map(drop).map_err(|error| with_causes(&error))
}

fn not_native(interface: &Interface, hook: Hook, error: &str) -> String {
    let driver = driver_of(&interface.name);
    let others = if hook == Hook::Xdp { "hook xdp-generic or tc" } else { "hook tc" };
    format!("{hook} was refused (driver {driver}): {error}; {others} would do")
}

fn refused(interface: &Interface, error: &dyn std::error::Error) -> DataplaneError {
    DataplaneError::Attach { interface: interface.name.clone(), reason: with_causes(error) }
}
