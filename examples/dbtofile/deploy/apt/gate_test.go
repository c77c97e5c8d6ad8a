//go:build linux

package apt_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// gate runs the function proven of dbtofile-update, with settle=30 and gate=180, in a time that only its sleeps make
// pass. healthy is a shell script that looks at $now, returns 0 if the version is healthy then, and may set $age
// and $crashed.
func gate(t *testing.T, healthy string) string {
	t.Helper()
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", `eval "$(sed -n '/^proven()/,/^}/p' dbtofile-update)"
		settle=30 gate=180 clock=1000
		seconds() { echo $clock; }
		sleep() { clock=$((clock + $1)); }
		healthy() { local now=$((clock - 1000)); why='is not ready' crashed=false age=0; `+healthy+`; }
		if proven 1.0.0; then echo "accepted after $((clock - 1000))"; else echo "refused after $((clock - 1000)): $why"; fi`)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return strings.TrimSpace(string(out))
}

func TestGate(t *testing.T) {
	for what, c := range map[string]struct{ healthy, want string }{
		"healthy at once":                       {`true`, "accepted after 30"},
		"never healthy":                         {`false`, "refused after 180: is not ready"},
		"healthy late, and for long enough":     {`((now >= 140))`, "accepted after 170"},
		"healthy just before the end":           {`((now >= 179))`, "accepted after 209"},
		"healthy too late":                      {`((now >= 180))`, "refused after 180: is not ready"},
		"with an interruption":                  {`((now != 29))`, "accepted after 60"},
		"for a moment every 20 s":               {`((now % 20))`, "refused after 181: is not ready"},
		"it crashes and is ready again":         {`((now < 10)) || crashed=true`, "refused after 10: is not ready, and has crashed"},
		"it crashes, and is not ready":          {`((now < 10)) || ! crashed=true`, "refused after 10: is not ready, and has crashed"},
		"it polls every 20 s":                   {`age=$((now % 20))`, "accepted after 30"},
		"it polls every 50 s":                   {`age=$((now % 50))`, "accepted after 50"},
		"it hangs after its first poll":         {`age=$now`, "refused after 212: a pipeline has stopped polling"},
		"the first poll was seen late":          {`age=$((now + 1))`, "refused after 212: a pipeline has stopped polling"},
		"it hangs after some polls":             {`age=$((now < 20 ? 0 : now - 20))`, "accepted after 30"}, // it has polled while it settled
		"the next poll is due in an hour":       {`age=-3600`, "accepted after 30"},
		"it hangs, and no longer answers later": {`age=$now; ((now < 60))`, "refused after 180: is not ready"},
	} {
		t.Run(what, func(t *testing.T) { assert.Equal(t, c.want, gate(t, c.healthy)) })
	}
}
