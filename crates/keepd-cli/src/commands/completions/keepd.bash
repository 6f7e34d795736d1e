# Options that say which keepd is meant are passed on to it.
__keepd_services() {
    local -a meant=()
    local i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "${COMP_WORDS[i]}" in
            -c|--config|-s|--socket|--project) meant+=("${COMP_WORDS[i]}" "${COMP_WORDS[i+1]}") ;;
            --system|--user) meant+=("${COMP_WORDS[i]}") ;;
        esac
    done
    "${COMP_WORDS[0]}" "${meant[@]}" status -o name 2>/dev/null
}

_keepd() {
    local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}"
    local i words verb=""
    __keepd_words "${COMP_WORDS[0]}" "$current" "$previous"
    if [[ $current == -* ]]; then
        return 0
    fi
    case "$previous" in
        @VALUED@) return 0 ;;
    esac
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "${COMP_WORDS[i]}" in
            @VALUED@) ((i++)) ;;
            -*) ;;
            *) verb="${COMP_WORDS[i]}"; break ;;
        esac
    done
    case "$verb" in
@CASES@
        *) return 0 ;;
    esac
    COMPREPLY=( $(compgen -W "$(__keepd_services) $words" -- "$current") )
}
