//! Explores the models of each variant.

use std::process::Command;

use kevio_models as variants;

/// Explores a model, and panics if an order of its threads fails.
fn explore(model: fn()) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// The models of the sources as they are hold.
macro_rules! models_hold {
    ($($model:ident,)+) => {
        $(#[test] fn $model() { explore(variants::right::models::$model); })+
    };
}

models_hold! {
    late_notification,
    two_wakers,
    waker_of_an_awake_poll,
    waker_of_a_spinning_poll,
    coalesced_wakes,
    setter,
    setter_without_alarm,
    first_timer,
    setter_and_waker,
    shared_queue_with_wakes,
    shared_queue_with_a_setter,
}

/// The variable that names the variant, for the child process.
const VARIABLE: &str = "KEVIO_MODELS_VARIANT";

/// The variants, each with the model that fails. Each runs in a process of its own, because a failed model may abort.
macro_rules! wrong_variants_fail {
    ($($variant:ident: $model:ident,)+) => {
        /// The test of the child process. Returns at once in the parent.
        #[test]
        fn variant_of_the_variable() {
            match std::env::var(VARIABLE).as_deref() {
                $(Ok(stringify!($variant)) => explore(variants::$variant::models::$model),)+
                Ok(other) => panic!("no variant {other}"),
                Err(_) => {}
            }
        }

        $(#[test] fn $variant() {
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "variant_of_the_variable", "--nocapture"])
                .env(VARIABLE, stringify!($variant))
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success(), "no order of the threads shows the fault");
            assert!(text.contains("panicked") && !text.contains("no variant"), "{text}");
        })+
    };
}

wrong_variants_fail! {
    awake_during_the_wait: waker_of_an_awake_poll,
    awake_after_a_spin: waker_of_a_spinning_poll,
    notified_cleared_before_its_record: late_notification,
    list_ignored_before_the_wait: two_wakers,
    coalesced_wake_only_loads: coalesced_wakes,
    awake_while_shared: shared_queue_with_wakes,
    bound_not_stored: setter,
    bound_without_order: setter,
    deadline_without_order: setter,
    alarm_not_cleared: setter,
    unknown_wait_taken_for_none: first_timer,
}
