// Package durable has the parts of an exactly-once sink: [Fence] decides
// whether a batch may be stored, [Lock] keeps a second process away, and
// [ReplaceFile] stores a small file so that a crash leaves the old content or
// the new. A sink that stores records and cursor in one transaction needs only
// the Fence:
//
//	func (s *Sink) Write(ctx context.Context, b source.Batch[Order]) error {
//		if err := s.fence.Check(b.From, b.To); err != nil {
//			return err
//		}
//		tx, stored, err := s.begin(ctx) // reads the State and locks it until the transaction ends
//		if err != nil {
//			return err
//		}
//		defer tx.Rollback()
//		next, moved, err := s.fence.Move(stored, b.From, b.To)
//		if err != nil || !moved {
//			return err // not moved: an earlier attempt was committed
//		}
//		if err := s.store(ctx, tx, b.Records, next); err != nil {
//			return err
//		}
//		return tx.Commit()
//	}
//
// Load reads the State, passes it to [Fence.Loaded] and returns its cursor. Save
// is a Write without records.
//
// [AddChecksum] makes damage of such a file visible, and [IsOutage] tells an error
// of the file system that may pass from one that a person must fix.
//
// The package example is a complete sink that stores records and cursor in one
// file. Packages filesink, filecheckpoint and sqlcheckpoint are built on this
// package.
//
// Errors have no package prefix: the caller adds its own name and the path.
package durable
