//! Faults that no call returns: what the GPU reports late, what is only logged, and panics. While a call is at work they
//! wait for it, since it asks for them before it reports success; at any other time they leave as events at once.

use std::cell::{Cell, RefCell};

use pixart_protocol::{EngineEvent, Fault, FaultCode};

use crate::border::Emitter;

thread_local! {
    static WAITING: RefCell<Vec<Fault>> = RefCell::default();
    static AT_WORK: Cell<u32> = const { Cell::new(0) };
    static EMITTER: RefCell<Option<Emitter>> = RefCell::default();
}

/// Sends faults that nobody waits for to `emitter` from now on.
pub(crate) fn tell(emitter: &Emitter) {
    EMITTER.set(Some(emitter.clone()));
}

/// Notes a fault that came through a callback.
pub(crate) fn note(fault: Fault) {
    if AT_WORK.get() == 0 {
        emit(fault);
    } else {
        WAITING.with_borrow_mut(|waiting| waiting.push(fault));
    }
}

/// The oldest fault since the last question; the younger ones are its consequences and are dropped.
pub(crate) fn first() -> Result<(), Fault> {
    WAITING.take().into_iter().next().map_or(Ok(()), Err)
}

/// A call at work. When it is dropped, faults that it did not ask for leave as events.
pub(crate) struct AtWork(());

impl AtWork {
    pub(crate) fn begin() -> Self {
        AT_WORK.set(AT_WORK.get() + 1);
        Self(())
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        AT_WORK.set(AT_WORK.get() - 1);
        if AT_WORK.get() == 0 {
            WAITING.take().into_iter().for_each(emit);
        }
    }
}

/// Prints panics to the console, and tells them: the promise of the call that panicked is never settled.
pub(crate) fn tell_panics() {
    std::panic::set_hook(Box::new(|panic| {
        console_error_panic_hook::hook(panic);
        let remedy = "restart the engine, and please report what you asked for";
        emit(Fault::new(FaultCode::Internal, format!("the engine stopped: {panic}"), remedy));
    }));
}

fn emit(fault: Fault) {
    let emitter = EMITTER.with_borrow(Clone::clone);
    match emitter {
        Some(emitter) => emitter.emit(&EngineEvent::Fault { id: None, fault }),
        None => web_sys::console::error_1(&fault.to_string().into()),
    }
}
