
# Options that say which keepd is meant are passed on to it.
function __keepd_services
    set -l meant
    set -l words (commandline -opc)
    for i in (seq 2 (count $words))
        switch $words[$i]
            case -c --config -s --socket --project
                set -a meant $words[$i] $words[(math $i + 1)]
            case --system --user
                set -a meant $words[$i]
        end
    end
    keepd $meant status -o name 2>/dev/null
end

