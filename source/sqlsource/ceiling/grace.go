package ceiling

import (
	"context"
	"time"
)

// Grace waits for a while before holes in the key are taken for good.
type Grace struct{ For time.Duration }

func (c Grace) String() string { return "grace=" + c.For.String() }

// Open implements [Ceiling].
func (c Grace) Open(_ context.Context, _ Queryer, t Table) (Guard, error) {
	r := Report{Strategy: c.String()}
	r.Add(Unsafe, "", "not built")
	return nil, r.Err(t)
}
