package ceiling

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Parse returns the strategy that a name stands for, as a setting of a program
// has it: auto, lock-fence, transaction-id, dirty-probe, single-writer, stamp,
// none, and with a duration of package time grace=30s and lag=5m. What String
// returns is such a name.
func Parse(text string) (Ceiling, error) {
	c, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("ceiling: %q: %w", text, err)
	}
	return c, nil
}

func parse(text string) (Ceiling, error) {
	for _, c := range []Ceiling{Auto{}, LockFence{}, TransactionID{}, DirtyProbe{}, SingleWriter{}, Stamp{}, None{}} {
		if text == c.String() {
			return c, nil
		}
	}
	name, value, _ := strings.Cut(text, "=")
	if name != "grace" && name != "lag" {
		return nil, errors.New("want auto, lock-fence, transaction-id, dirty-probe, single-writer, stamp, grace=30s, lag=5m, or none")
	}
	d, err := time.ParseDuration(value)
	if err != nil || d <= 0 {
		return nil, fmt.Errorf("want a duration of more than 0 behind %s, such as %[1]s=30s", name)
	}
	if name == "grace" {
		return Grace{For: d}, nil
	}
	return Lag{By: d}, nil
}
