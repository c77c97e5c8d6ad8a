package systemdlab_test

import (
	"fmt"
	"testing"

	"github.com/artifactofdevotion/devotion/poller/integration/systemdlab"
)

func ExampleBoot() {
	var t *testing.T // the test's

	lab := systemdlab.Boot(t)
	lab.Unit("sleeper.service", "[Service]\nExecStart=/bin/sleep infinity\nRestart=always\n")
	lab.Must("systemctl", "start", "sleeper")
	lab.Must("systemctl", "kill", "--signal=KILL", "sleeper")
	lab.Eventually("it restarts", func() bool { return lab.Show("sleeper", "NRestarts") == "1" })
	for _, e := range lab.Journal("sleeper") {
		fmt.Println(e.At, e.Message)
	}
}
