package ceiling

import (
	"context"
	"time"
)

// Lag reads rows that are old enough.
type Lag struct{ By time.Duration }

func (c Lag) String() string { return "lag=" + c.By.String() }

// Open implements [Ceiling].
func (c Lag) Open(_ context.Context, _ Queryer, t Table) (Guard, error) {
	r := Report{Strategy: c.String()}
	r.Add(Unsafe, "", "not built")
	return nil, r.Err(t)
}
