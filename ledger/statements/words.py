"""Every word of a statement, in English, German, Portuguese and Russian."""

from __future__ import annotations

import re

from ledger.statements.document import BUCKETS
from ledger.statements.numbers import count, plural_category

LANGUAGES = ("en", "de", "pt", "ru")

# key → the word in the order of LANGUAGES. {names} in braces are filled in.
WORDS: dict[str, tuple[str, str, str, str]] = {
    "statement": (
        "Commission statement",
        "Provisionsabrechnung",
        "Extrato de comissões",
        "Отчёт о комиссионном вознаграждении",
    ),
    "affiliate": ("Affiliate", "Partner", "Afiliado", "Партнёр"),
    "program": ("Program", "Programm", "Programa", "Программа"),
    "period": ("Period", "Zeitraum", "Período", "Период"),
    "from_to": ("{start} to {end}", "{start} bis {end}", "{start} a {end}", "{start} – {end}"),
    "until": ("From the beginning to {end}", "Von Beginn bis {end}", "Desde o início até {end}", "С начала до {end}"),
    "week": (
        "Week {week}, {year}",
        "Kalenderwoche {week}/{year}",
        "Semana {week} de {year}",
        "{week}-я неделя {year} г.",
    ),
    "zone": (
        "Time zone of all dates",
        "Zeitzone aller Daten",
        "Fuso horário de todas as datas",
        "Часовой пояс всех дат",
    ),
    "version": ("Version", "Fassung", "Versão", "Версия"),
    "reissued": (
        "{version} (replaces the earlier ones)",
        "{version} (ersetzt die früheren)",
        "{version} (substitui as anteriores)",
        "{version} (заменяет предыдущие)",
    ),
    "position": ("Position in the ledger", "Stand des Hauptbuchs", "Posição no livro-razão", "Позиция в журнале"),
    "overview": ("Overview", "Überblick", "Resumo", "Обзор"),
    "currency": ("Currency", "Währung", "Moeda", "Валюта"),
    "owed_opening": ("Owed at the start", "Guthaben zu Beginn", "Saldo no início", "Остаток на начало"),
    "owed_closing": ("Owed at the end", "Guthaben am Ende", "Saldo no fim", "Остаток на конец"),
    "net_commission": ("Commission, net", "Provision, netto", "Comissão líquida", "Комиссия за вычетом возвратов"),
    "other_changes": ("Other changes", "Sonstiges", "Outros movimentos", "Прочие изменения"),
    "paid_in_period": ("Paid out", "Ausgezahlt", "Pago", "Выплачено"),
    "payable_closing": ("of which payable", "davon auszahlbar", "dos quais a pagar", "в том числе к выплате"),
    "overview_note": (
        "Owed is the sum of pending, held, payable and in transit. Commission is shown less rejections and reversals.",
        "Das Guthaben ist die Summe aus Vorgemerkt, Angehalten, Auszahlbar und In Auszahlung. Von der Provision sind "
        "Ablehnungen und Stornos abgezogen.",
        "O saldo é a soma de pendente, em espera, a pagar e em trânsito. A comissão é mostrada menos as rejeições e "
        "os estornos.",
        "Остаток — это сумма по столбцам «В ожидании», «Приостановлено», «К выплате» и «В пути». Комиссия показана за "
        "вычетом отклонённых и сторнированных сумм.",
    ),
    "negative": (
        "{amount} more was taken back than was payable. It is offset against your next commissions.",
        "Es wurde {amount} mehr storniert, als auszahlbar war. Der Betrag wird mit Ihren nächsten Provisionen "
        "verrechnet.",
        "Foram estornados {amount} a mais do que havia a pagar. O valor será compensado com as suas próximas "
        "comissões.",
        "Возвращено на {amount} больше, чем было к выплате. Сумма будет зачтена из следующих комиссий.",
    ),
    "movement": ("Movement", "Bewegung", "Movimento", "Движение"),
    "lines": ("Lines", "Posten", "Lançamentos", "Строки"),
    "opening": ("Opening", "Anfang", "Saldo inicial", "На начало"),
    "closing": ("Closing", "Ende", "Saldo final", "На конец"),
    "pending": ("Pending", "Vorgemerkt", "Pendente", "В ожидании"),
    "held": ("Held", "Angehalten", "Em espera", "Приостановлено"),
    "payable": ("Payable", "Auszahlbar", "A pagar", "К выплате"),
    "in_transit": ("In transit", "In Auszahlung", "Em trânsito", "В пути"),
    "paid": ("Paid", "Ausgezahlt", "Pago", "Выплачено"),
    "paid_in_all": ("Paid in all", "Ausgezahlt gesamt", "Pago no total", "Выплачено всего"),
    "payouts": ("Payouts of the period", "Auszahlungen des Zeitraums", "Pagamentos do período", "Выплаты за период"),
    "no_payouts": (
        "There was no payout in this period.",
        "In diesem Zeitraum gab es keine Auszahlung.",
        "Não houve pagamentos neste período.",
        "В этом периоде выплат не было.",
    ),
    "initiated_on": ("Date", "Datum", "Data", "Дата"),
    "payout": ("Payout", "Auszahlung", "Pagamento", "Выплата"),
    "status": ("Status", "Status", "Situação", "Статус"),
    "invoice": ("Invoice", "Gutschrift-Nr.", "Fatura", "Счёт"),
    "credit_note": ("Credit note", "Storno-Nr.", "Nota de crédito", "Кредит-нота"),
    "vat": ("VAT", "USt.", "IVA", "НДС"),
    "withholding": ("Tax withheld", "Steuerabzug", "Imposto retido", "Удержанный налог"),
    "net": ("Net", "Netto", "Líquido", "Без налога"),
    "transferred": ("Transferred", "Überwiesen", "Transferido", "Переведено"),
    "amount": ("Amount", "Betrag", "Valor", "Сумма"),
    "disputes": ("Open disputes", "Offene Beanstandungen", "Contestações em aberto", "Открытые споры"),
    "elsewhere": (
        "on another statement",
        "auf einer anderen Abrechnung",
        "em outro extrato",
        "в другом отчёте",
    ),
    "year": ("The year", "Das Jahr", "O ano", "Год"),
    "month": ("Month", "Monat", "Mês", "Месяц"),
    "earned": ("Earned", "Verdient", "Ganho", "Начислено"),
    "total": ("Total", "Summe", "Total", "Итого"),
    "chart_of": (
        "Earned and paid by month, {currency}",
        "Verdient und ausgezahlt je Monat, {currency}",
        "Ganho e pago por mês, {currency}",
        "Начислено и выплачено по месяцам, {currency}",
    ),
    "line": ("Line", "Posten", "Linha", "Строка"),
    "date": ("Date", "Datum", "Data", "Дата"),
    "what": ("What", "Vorgang", "Operação", "Операция"),
    "reference": ("Reference", "Referenz", "Referência", "Ссылка"),
    "from_and_to": ("From → to", "Von → nach", "De → para", "Откуда → куда"),
    "source": ("From", "Von", "De", "Откуда"),
    "target": ("To", "Nach", "Para", "Куда"),
    "happened_at": ("Happened at", "Geschehen am", "Ocorrido em", "Произошло"),
    "recorded_at": ("Recorded at", "Erfasst am", "Registrado em", "Записано"),
    "change_of_owed": ("Change of owed", "Änderung Guthaben", "Variação do saldo", "Изменение остатка"),
    "late": ("Late", "Nachträglich", "Tardio", "Позднее"),
    "yes": ("yes", "ja", "sim", "да"),
    "late_mark": (
        "late, recorded {date}",
        "nachträglich, erfasst am {date}",
        "tardio, registrado em {date}",
        "поздняя, записана {date}",
    ),
    "late_note": (
        "A late line happened before this period, on the date it shows, and stands on no earlier statement.",
        "Ein nachträglicher Posten geschah vor diesem Zeitraum, an seinem angegebenen Datum, und steht auf keiner "
        "früheren Abrechnung.",
        "Um lançamento tardio ocorreu antes deste período, na data indicada, e não consta de nenhum extrato anterior.",
        "Поздняя строка относится к указанной дате до начала этого периода и не входит ни в один прежний отчёт.",
    ),
    "signs_note": (
        "A plus raises and a minus lowers what is owed; an amount without a sign moves from one state to the next.",
        "Plus erhöht und Minus senkt das Guthaben; ein Betrag ohne Vorzeichen wechselt nur seinen Stand.",
        "Um mais aumenta e um menos reduz o saldo; um valor sem sinal só muda de situação.",
        "Плюс увеличивает, минус уменьшает остаток; сумма без знака лишь переходит из одного состояния в другое.",
    ),
    "count": ("Lines", "Anzahl", "Quantidade", "Строк"),
    "by_day": (
        "Lines by day and kind",
        "Posten nach Tag und Vorgang",
        "Lançamentos por dia e operação",
        "Строки по дням и операциям",
    ),
    "by_month": (
        "Lines by month and kind",
        "Posten nach Monat und Vorgang",
        "Lançamentos por mês e operação",
        "Строки по месяцам и операциям",
    ),
    "too_many": (
        "This statement has {lines}, too many to print. They are summed here; each single line is in the CSV and XLSX "
        "files of the same statement.",
        "Diese Abrechnung hat {lines}, zu viele zum Drucken. Sie sind hier summiert; jeder einzelne Posten steht in "
        "der CSV- und der XLSX-Datei derselben Abrechnung.",
        "Este extrato tem {lines}, demais para imprimir. Aqui estão somados; cada lançamento está nos arquivos CSV e "
        "XLSX do mesmo extrato.",
        "В этом отчёте {lines} — слишком много для печати. Здесь они просуммированы; каждая строка есть в файлах CSV "
        "и XLSX того же отчёта.",
    ),
    "check": (
        "How to check this statement",
        "So prüfen Sie diese Abrechnung",
        "Como verificar este extrato",
        "Как проверить этот отчёт",
    ),
    "hash": ("SHA-256", "SHA-256", "SHA-256", "SHA-256"),
    "check_how": (
        "Save the same statement as JSON, as it was hashed, under the name {file}: over HTTP with “?format=canonical”, "
        "on the command line with “--format json”. Its SHA-256, for example by “sha256sum {file}”, must be the value "
        "above. The number of each line is its position in the ledger and its place "
        "there.",
        "Speichern Sie dieselbe Abrechnung als JSON in der geprüften Form unter dem Namen {file}: über HTTP mit "
        "„?format=canonical“, auf der Kommandozeile mit „--format json“. Ihre SHA-256, etwa mit „sha256sum {file}“, "
        "muss der obige Wert sein. Die Nummer jedes Postens ist seine Position im Hauptbuch und seine "
        "Stelle dort.",
        "Salve o mesmo extrato como JSON, na forma em que foi conferido, com o nome {file}: por HTTP com "
        "“?format=canonical”, na linha de comando com “--format json”. O seu SHA-256, por exemplo com "
        "“sha256sum {file}”, deve ser o valor acima. O número de cada lançamento é a sua posição no "
        "livro-razão e o seu lugar nela.",
        "Сохраните тот же отчёт в формате JSON, в котором он был хеширован, под именем {file}: по HTTP с "
        "«?format=canonical», в командной строке с «--format json». Его SHA-256, например командой «sha256sum {file}», "
        "должен совпасть со значением выше. Номер строки — это её позиция в журнале и место в ней.",
    ),
    "page": (
        "Page {page} of {pages}",
        "Seite {page} von {pages}",
        "Página {page} de {pages}",
        "Страница {page} из {pages}",
    ),
    "sheet_summary": ("Summary", "Übersicht", "Resumo", "Обзор"),
    "sheet_lines": ("Lines", "Posten", "Lançamentos", "Строки"),
    "no_lines": (
        "Nothing moved in this period.",
        "In diesem Zeitraum bewegte sich nichts.",
        "Nada mudou neste período.",
        "В этом периоде движений не было.",
    ),
}

# What one event of the log is called on a statement; in the order in which a summary lists them.
EVENTS: dict[str, tuple[str, str, str, str]] = {
    "CommissionAccrued": ("Commission", "Provision", "Comissão", "Комиссия"),
    "CommissionRepriced": ("Commission changed", "Provision angepasst", "Comissão alterada", "Комиссия изменена"),
    "ConversionHeld": ("Held", "Angehalten", "Posta em espera", "Приостановлено"),
    "ConversionReleased": ("Released", "Halt aufgehoben", "Liberada da espera", "Приостановка снята"),
    "ConversionApproved": ("Approved", "Freigegeben", "Aprovada", "Одобрено"),
    "ConversionRejected": ("Rejected", "Abgelehnt", "Rejeitada", "Отклонено"),
    "ConversionReversed": ("Reversed", "Storniert", "Estornada", "Сторнировано"),
    "AdjustmentPosted": ("Adjustment", "Korrektur", "Ajuste", "Корректировка"),
    "PayoutInitiated": ("Payout initiated", "Auszahlung veranlasst", "Pagamento iniciado", "Выплата начата"),
    "PayoutSettled": ("Payout settled", "Auszahlung ausgeführt", "Pagamento concluído", "Выплата исполнена"),
    "PayoutFailed": ("Payout failed", "Auszahlung gescheitert", "Pagamento não efetuado", "Выплата не прошла"),
    "PayoutReturned": ("Payout returned", "Auszahlung zurückgekommen", "Pagamento devolvido", "Выплата возвращена"),
}

# The program's own accounts, where the other side of a move is no bucket.
ACCOUNTS: dict[str, tuple[str, str, str, str]] = {
    "commission": ("Commission", "Provision", "Comissão", "Комиссия"),
    "adjustment": ("Adjustment", "Korrektur", "Ajuste", "Корректировка"),
    "tax": ("Tax", "Steuer", "Imposto", "Налог"),
    "vat": ("VAT", "Umsatzsteuer", "IVA", "НДС"),
    "withholding": ("Tax withheld", "Steuerabzug", "Imposto retido", "Удержанный налог"),
    "bank_fee": ("Bank fee", "Bankgebühr", "Tarifa bancária", "Банковская комиссия"),
}

STATUSES: dict[str, tuple[str, str, str, str]] = {
    "proposed": ("Proposed", "Vorgeschlagen", "Proposto", "Предложена"),
    "initiated": ("On its way", "Unterwegs", "A caminho", "В пути"),
    "settled": ("Paid", "Ausgezahlt", "Pago", "Выплачена"),
    "failed": ("Failed", "Gescheitert", "Não efetuado", "Не прошла"),
    "returned": ("Returned", "Zurückgekommen", "Devolvido", "Возвращена"),
    "unknown": ("Being checked", "In Klärung", "Em verificação", "Проверяется"),
    "excluded": ("Excluded", "Ausgenommen", "Excluído", "Исключена"),
}

DISPUTE_STATUSES: dict[str, tuple[str, str, str, str]] = {
    "open": ("Open", "Offen", "Em aberto", "Открыт"),
    "answered": ("Answered", "Beantwortet", "Respondida", "Дан ответ"),
    "accepted": ("Accepted", "Anerkannt", "Aceita", "Удовлетворён"),
    "rejected": ("Rejected", "Abgelehnt", "Rejeitada", "Отклонён"),
    "withdrawn": ("Withdrawn", "Zurückgezogen", "Retirada", "Отозван"),
}

# key → language → CLDR plural category → the words
PLURALS: dict[str, dict[str, dict[str, str]]] = {
    "lines": {
        "en": {"one": "{n} line", "other": "{n} lines"},
        "de": {"one": "{n} Posten", "other": "{n} Posten"},
        "pt": {"one": "{n} lançamento", "other": "{n} lançamentos"},
        "ru": {"one": "{n} строка", "few": "{n} строки", "many": "{n} строк", "other": "{n} строки"},
    },
    "late_lines": {
        "en": {"one": "{n} of them late", "other": "{n} of them late"},
        "de": {"one": "{n} davon nachträglich", "other": "{n} davon nachträglich"},
        "pt": {"one": "{n} deles tardio", "other": "{n} deles tardios"},
        "ru": {
            "one": "из них {n} поздняя",
            "few": "из них {n} поздние",
            "many": "из них {n} поздних",
            "other": "из них {n} поздней",
        },
    },
}

_HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def language_of(tag: str) -> str:
    """The language of a BCP 47 tag ('pt-BR' → 'pt'), English when it is none of LANGUAGES."""
    primary = tag.replace("_", "-").split("-")[0].lower()
    return primary if primary in LANGUAGES else "en"


def word(key: str, language: str, **fill: str) -> str:
    """A word of WORDS, its braces filled in."""
    text = WORDS[key][LANGUAGES.index(language)]
    return text.format(**fill) if fill else text


def plural(key: str, amount: int, language: str) -> str:
    """'1 line', '2 lines': the form the language has for the number."""
    forms = PLURALS[key][language]
    text = forms.get(plural_category(amount, language), forms["other"])
    return text.format(n=count(amount, language))


def _named(names: dict[str, tuple[str, str, str, str]], name: str, language: str) -> str:
    """A name of ours, else the technical one made readable: a statement must never fail for a newer topic."""
    if name in names:
        return names[name][LANGUAGES.index(language)]
    spaced = _HUMPS.sub(" ", name).replace("_", " ").lower()
    return spaced[:1].upper() + spaced[1:]


def event_name(topic: str, language: str) -> str:
    """What an event's topic is called on a statement: 'CommissionAccrued' → 'Commission'."""
    return _named(EVENTS, topic, language)


def place_name(name: str, language: str) -> str:
    """A bucket of the affiliate or an account of the program ('tax:vat' and 'vat' are one)."""
    return word(name, language) if name in BUCKETS else _named(ACCOUNTS, name.rpartition(":")[2], language)


def payout_status(status: str, language: str) -> str:
    """How a payout stands."""
    return _named(STATUSES, status, language)


def dispute_status(status: str, language: str) -> str:
    """How a dispute stands."""
    return _named(DISPUTE_STATUSES, status, language)
