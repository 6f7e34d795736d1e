//! Whole-system tests, one file for each area of behaviour.

mod b0100_quick_start;
mod b0200_real_programs;
mod b0300_takeover;
mod b0400_lost_processes;
mod b0500_up_and_down;
mod b0510_status_and_why;
mod b0520_start_stop_restart;
mod b0530_logs_verb;
mod b0540_check_and_apply;
mod b0545_keep_going;
mod b0550_run;
mod b0560_http_api;
mod b0600_whole_groups;
mod b0700_log_files;
mod b0800_bad_starts;
mod b0900_protocol;
mod b1000_web_stack;
mod b1100_stop_modes;
mod b1110_ready_fd;
mod b1120_ways_to_be_ready;
mod b1130_relations;
mod b1200_system_instance;
mod b1210_more_files;
mod b1300_asking_verbs;
mod b1310_attach;
mod b1500_bad_days;
