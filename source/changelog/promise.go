package changelog

import (
	"context"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// Promise returns the guarantee that the changes will have once the statements of Script were run. It
// returns the error of Script if the table's changes cannot be recorded.
func (t *Table) Promise(ctx context.Context) (g source.Guarantee, err error) {
	err = t.use(ctx, func(_ ceiling.Queryer, _ engine, f *facts) error {
		g = *f.guarantee(t.KeysOnly, nil)
		return nil
	})
	return g, err
}
