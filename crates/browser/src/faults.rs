//! Asynchronous faults: errors that the GPU reports late or that are only logged, and panics. During a call they are queued, and the
//! call takes them before it reports success. At any other time they are emitted as events.

use std::cell::{Cell, RefCell};

use pixart_protocol::{EngineEvent, Fault, FaultCode};

use crate::interop::Emitter;

thread_local! {
    static PENDING: RefCell<Vec<Fault>> = RefCell::default();
    static RUNNING_CALLS: Cell<u32> = const { Cell::new(0) };
    static EMITTER: RefCell<Option<Emitter>> = RefCell::default();
}

/// Emits the faults that no call takes through `emitter`.
pub(crate) fn set_emitter(emitter: &Emitter) {
    EMITTER.set(Some(emitter.clone()));
}

/// Reports a fault from a callback.
pub(crate) fn report(fault: Fault) {
    if RUNNING_CALLS.get() == 0 {
        emit(fault);
    } else {
        PENDING.with_borrow_mut(|pending| pending.push(fault));
    }
}

/// Takes the oldest pending fault. Later ones are its consequences and are dropped.
pub(crate) fn take_first() -> Result<(), Fault> {
    PENDING.take().into_iter().next().map_or(Ok(()), Err)
}

/// Marks a running call. When the last one is dropped, faults that were not taken are emitted.
pub(crate) struct CallGuard(());

impl CallGuard {
    pub(crate) fn begin() -> Self {
        RUNNING_CALLS.set(RUNNING_CALLS.get() + 1);
        Self(())
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        RUNNING_CALLS.set(RUNNING_CALLS.get() - 1);
        if RUNNING_CALLS.get() == 0 {
            PENDING.take().into_iter().for_each(emit);
        }
    }
}

/// Prints panics to the console and emits them: the promise of a call that panics never settles.
pub(crate) fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        console_error_panic_hook::hook(panic);
        let remedy = "restart the engine, and please report the request";
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
