import time, tracemalloc
from statement_world import open_firm
from support import T0, by
from ledger import presenting
from ledger.projections import periods
from ledger.statements.render import render
from ledger.domain.recording import RecordConversion
def test_x(database):
    with open_firm(database) as firm:
        for total in (6000, 100_000):
            firm.ledger.execute_many(firm.program, [RecordConversion(order_id=f"o{total}-{n:06}", offer_id="shoes", amount=1000, affiliate_id="ada", occurred_at=firm.clock.now) for n in range(total)], by())
            period = {6000:"2026-01",100000:"2026-03"}[total]
            firm.clock.advance(days=40)
            if total==100000: firm.close("2026-02", )
            t=time.time(); firm.close(period); print("close", time.time()-t)
            found = presenting.find_statement(firm.ledger, firm.program, "ada", period)
            shown = presenting.present(firm.ledger, firm.program, found)
            for form in ("json","csv","html","xlsx", "pdf"):
                t=time.time()
                lines = presenting.read_lines(firm.ledger, firm.program, found)
                a=time.time()-t
                n=sum(len(p) for p in render(shown, lines, form)); b=time.time()-t-a
                lines.close()
                tracemalloc.start()
                lines = presenting.read_lines(firm.ledger, firm.program, found)
                r=tracemalloc.get_traced_memory()[1]; tracemalloc.reset_peak()
                it = render(shown, lines, form) if form not in ("xlsx","pdf") else ()
                for _ in it: pass
                r2=tracemalloc.get_traced_memory()[1]; tracemalloc.stop(); lines.close()
                print(total, form, n, f"read {a:.2f}s render {b:.2f}s, peaks {r:,} {r2:,}")
            if total==6000: firm.clock.advance(days=20)
