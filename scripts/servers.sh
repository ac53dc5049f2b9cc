# For the scripts that start servers (sourced): are their ports free, and how do they end?

# Whether something listens at ADDRESS.
listens() { (exec 3<>"/dev/tcp/${1%:*}/${1##*:}") 2>/dev/null; }

# free_ports NAME ADDRESS...: ends the script NAME with exit code 3 if one is taken.
free_ports() {
    local address
    for address in "${@:2}"; do
        if listens "$address"; then
            echo "$1: port ${address##*:} is taken: something listens on $address; stop it and try again" >&2
            exit 3
        fi
    done
}

# What was started, and the folder of its logs; both are gone when the script ends.
pids=()
folder=
clean_up() {
    trap - EXIT INT TERM
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    [ -z "$folder" ] || rm -rf "$folder"
}
trap clean_up EXIT
