# Options that say which keepd is meant are passed on to it.
_keepd_offered() {
    local -a meant offered
    local option
    for option in -c --config -s --socket --project; do
        if [[ -n "${opt_args[$option]}" ]]; then
            meant+=("$option" "${opt_args[$option]}")
        fi
    done
    for option in --system --user; do
        if (( ${+opt_args[$option]} )); then
            meant+=("$option")
        fi
    done
    offered=(${(f)"$(keepd $meant status -o name 2>/dev/null)"})
    case "$words[1]" in
@CASES@
    esac
    compadd -a offered
}

