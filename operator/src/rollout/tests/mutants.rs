//! Each rule is broken once, by itself, and the scenario that is there for it must notice.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{back, disturbed, forward};
use crate::rollout::rules::{ALL, Rule, broken};

/// The scenario that notices the loss of a rule.
fn scenario(rule: Rule) -> fn() {
    match rule {
        Rule::CoverTemplate => disturbed::a_third_template_in_the_middle_restarts_nothing_in_place,
        Rule::CoverAtRest => forward::a_stray_template_restarts_nothing,
        Rule::SamplesMin => forward::too_few_samples_wait_where_the_spec_says_so,
        Rule::PausedStays => forward::a_paused_rollout_stands_still_until_it_is_resumed,
        Rule::RestWhenComplete | Rule::PinFirst | Rule::Soak | Rule::SlideBySurge => {
            forward::every_policy_comes_to_rest_and_moves_each_client_once
        }
        Rule::FreshStatus | Rule::SteerBatch | Rule::EndpointsAlone | Rule::Settle => {
            || assert!(forward::any_order(5) > 0)
        }
        Rule::SteerBack => disturbed::clients_are_led_back_when_a_new_node_stumbles,
        Rule::KeepReady => || assert!(disturbed::anything(5) > 0),
        Rule::NewReady | Rule::SelfTest | Rule::WorseFails | Rule::Deadline => {
            back::a_template_that_fails_goes_back_whatever_the_policy
        }
        Rule::PausedKeeps => forward::nodes_that_wake_while_rollouts_are_paused_are_of_the_spec_that_ran,
        Rule::Absence => back::a_rollout_that_nobody_looked_after_has_not_failed,
        Rule::ServeTheReady => back::whoever_is_ready_serves_even_unproven_when_nobody_else_is,
        Rule::RememberFailed => back::a_failed_spec_is_tried_again_only_when_somebody_says_so,
        Rule::LeadBack | Rule::SettleBack | Rule::TemplateLast => back::an_abort_goes_back_from_anywhere,
        Rule::OldReady => || assert!(back::any_order(2) > 0),
        Rule::StuckLeave => back::nodes_that_are_stuck_leave_at_once,
        Rule::MissingIsOld => disturbed::a_node_lost_in_the_middle_is_made_again,
        Rule::BrokenDoNotBlock => disturbed::an_old_node_that_is_broken_does_not_hold_up_its_replacement,
        Rule::ScaleDownOld => disturbed::fewer_or_more_nodes_in_the_middle_keep_the_new_ones,
        Rule::AdoptLowest | Rule::AdoptCovers => disturbed::a_lost_statefulset_is_made_again_around_what_runs,
        Rule::DeadMachine | Rule::DeadMachineBound => {
            disturbed::a_pod_of_a_dead_machine_is_deleted_by_force_but_not_one_with_a_volume
        }
    }
}

#[test]
fn every_rule_is_needed() {
    let survives = |rule: &Rule| broken(*rule, || catch_unwind(AssertUnwindSafe(scenario(*rule))).is_ok());
    let survivors: Vec<Rule> = ALL.into_iter().filter(survives).collect();
    println!("{} of {} mutants are caught", ALL.len() - survivors.len(), ALL.len());
    assert!(survivors.is_empty(), "nothing notices the loss of {survivors:?}");
}
