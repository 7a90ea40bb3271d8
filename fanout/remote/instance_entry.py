"""Instance entry: the shell lines by which a login enters an instance of apptainer, or removes it. Pure.

``has NAME`` ends with 0 if there is such an instance, with 1 if there is none, and with 2 if apptainer did not say.
"""

from __future__ import annotations

from fanout.model.instance_creation import DELETE_OUTPUT

#: Arguments: the name of the instance, and the names of the program.
_FIND = f"""\
{DELETE_OUTPUT}
engine=
for each in $2; do if command -v $each >/dev/null 2>&1; then engine=$each; break; fi; done
[ -n "$engine" ] || {{ echo "none of these programs is on the PATH: $2" >&2; exit 127; }}
has() {{
listed=$($engine instance list "$1" 2>&1) || return 2
case "
$listed" in *"
$1 "*) return 0;; esac
return 1
}}
cd /
"""

#: The further arguments: the command in base64, "state" if the line on stderr is wanted, and the script that
#: creates the instance in base64.
ENTER = f"""\
{_FIND}
[ -z "$5" ] || ( eval "$(echo $5 | base64 -d)" ) || exit $?
$engine -s exec --cleanenv --pwd / "instance://$1" sh -c "$(echo $3 | base64 -d)"
status=$?
[ $status = 0 ] || [ -z "$4" ] || {{
has "$1"
case $? in 0) state=running;; 1) state=missing;; *) state=unknown;; esac
echo "fanout-container $engine $state" >&2
}}
exit $status"""

#: Removes the instance and the files of its output, which apptainer leaves in the home of the user.
REMOVE = f"""\
{_FIND}
for try in 1 2 3 4 5 6 7 8 9 10; do
has "$1"
case $? in
0) $engine instance stop -F "$1" >/dev/null 2>&1 || sleep 0.5;;
1) delete_output "$1"; exit 0;;
*) sleep 0.5;;
esac
done
echo "could not verify that $engine has removed $1" >&2
exit 1"""
