# Options that say which keepd is meant are passed on to it.
_keepd_offered() {
    local -a meant offered
    local -A given
    local option
    given=("${(@kv)keepd_before_verb}" "${(@kv)opt_args}")
    for option in -c --config -s --socket --project; do
        if [[ -n "${given[$option]}" ]]; then
            meant+=("$option" "${given[$option]}")
        fi
    done
    for option in --system --user; do
        if (( ${+given[$option]} )); then
            meant+=("$option")
        fi
    done
    offered=(${(f)"$(keepd $meant status -o name 2>/dev/null)"})
    case "$words[1]" in
@CASES@
    esac
    compadd -a offered
}

