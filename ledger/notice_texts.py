"""What notices say, as data: by language and template, a subject and a text.

In braces: a template's facts (ledger.domain.notice.TEMPLATES), and what is made of them: {method_name},
{amount_text}, {effective_text}, {affiliate_id} and {program}.
"""

from __future__ import annotations

METHOD_NAMES: dict[str, dict[str, str]] = {
    "en": {"sepa": "SEPA transfer", "paypal": "PayPal", "wise": "Wise", "manual": "payment by hand"},
    "de": {"sepa": "SEPA-Überweisung", "paypal": "PayPal", "wise": "Wise", "manual": "Zahlung von Hand"},
    "pt": {"sepa": "transferência SEPA", "paypal": "PayPal", "wise": "Wise", "manual": "pagamento manual"},
    "ru": {"sepa": "перевод SEPA", "paypal": "PayPal", "wise": "Wise", "manual": "ручной платёж"},
}

FRAMES: dict[str, str] = {
    "en": "Hello {affiliate_id},\n\n{text}\n\nThis is an automatic notice of the affiliate program {program}.\n",
    "de": "Guten Tag {affiliate_id},\n\n{text}\n\n"
    "Dies ist eine automatische Nachricht des Partnerprogramms {program}.\n",
    "pt": "Olá {affiliate_id},\n\n{text}\n\nEste é um aviso automático do programa de afiliados {program}.\n",
    "ru": "Здравствуйте, {affiliate_id}!\n\n{text}\n\n"
    "Это автоматическое уведомление партнёрской программы {program}.\n",
}

TEXTS: dict[str, dict[str, tuple[str, str]]] = {
    "en": {
        "payout_method_proposed": (
            "Your payout method is to be changed",
            "A new payout method for {currency} was proposed for you: {method_name} (version {method_version}).\n"
            "It needs the approval of a second person and a wait before payouts go there.\n\n"
            "If you did not ask for this, withdraw the change or tell the program at once.",
        ),
        "payout_method_approved": (
            "Your new payout method was approved",
            "The new payout method for {currency} was approved: {method_name} (version {method_version}).\n"
            "Payouts go there from {effective_text} on.\n\n"
            "If you did not ask for this, withdraw the change or tell the program before then.",
        ),
        "payout_method_rejected": (
            "Your new payout method was rejected",
            "The proposed payout method for {currency} was rejected: {method_name} (version {method_version}).\n"
            "Nothing changes.",
        ),
        "payout_method_withdrawn": (
            "The change of your payout method was withdrawn",
            "The change of your payout method for {currency} was withdrawn: {method_name} (version"
            " {method_version}).\nNothing changes.",
        ),
        "statement_issued": (
            "Your statement for {period}",
            "Your statement for {period} is ready (version {statement_version}).",
        ),
        "payout_initiated": (
            "A payout is on its way",
            "A payout of {amount_text} is on its way to you. Reference: {payout_id}",
        ),
        "payout_settled": (
            "You were paid",
            "Your payout of {amount_text} was carried out by the bank. Reference: {payout_id}",
        ),
        "payout_failed": (
            "A payout could not be made",
            "Your payout of {amount_text} could not be made; the amount is owed to you again. Reference:"
            " {payout_id}\n\nPlease check your payout method.",
        ),
        "payout_returned": (
            "A payout came back",
            "Your payout of {amount_text} came back from your bank; the amount is owed to you again. Reference:"
            " {payout_id}\n\nPlease check your payout method.",
        ),
        "dispute_answered": (
            "Your dispute was answered",
            "There is an answer to your dispute {dispute_id} about the statement for {period}.",
        ),
    },
    "de": {
        "payout_method_proposed": (
            "Ihre Auszahlungsart soll geändert werden",
            "Für Sie wurde eine neue Auszahlungsart für {currency} vorgeschlagen: {method_name} (Version"
            " {method_version}).\nBevor dorthin ausgezahlt wird, muss eine zweite Person zustimmen und eine Wartezeit"
            " vergehen.\n\nWenn Sie das nicht veranlasst haben, ziehen Sie die Änderung zurück, oder wenden Sie sich"
            " sofort an das Programm.",
        ),
        "payout_method_approved": (
            "Ihre neue Auszahlungsart wurde genehmigt",
            "Die neue Auszahlungsart für {currency} wurde genehmigt: {method_name} (Version {method_version}).\n"
            "Ab {effective_text} wird dorthin ausgezahlt.\n\n"
            "Wenn Sie das nicht veranlasst haben, ziehen Sie die Änderung vorher zurück, oder wenden Sie sich an das"
            " Programm.",
        ),
        "payout_method_rejected": (
            "Ihre neue Auszahlungsart wurde abgelehnt",
            "Die vorgeschlagene Auszahlungsart für {currency} wurde abgelehnt: {method_name} (Version"
            " {method_version}).\nEs ändert sich nichts.",
        ),
        "payout_method_withdrawn": (
            "Die Änderung Ihrer Auszahlungsart wurde zurückgezogen",
            "Die Änderung Ihrer Auszahlungsart für {currency} wurde zurückgezogen: {method_name} (Version"
            " {method_version}).\nEs ändert sich nichts.",
        ),
        "statement_issued": (
            "Ihre Abrechnung für {period}",
            "Ihre Abrechnung für {period} liegt vor (Version {statement_version}).",
        ),
        "payout_initiated": (
            "Eine Auszahlung ist unterwegs",
            "Eine Auszahlung von {amount_text} ist an Sie unterwegs. Referenz: {payout_id}",
        ),
        "payout_settled": (
            "Sie wurden bezahlt",
            "Ihre Auszahlung von {amount_text} wurde von der Bank ausgeführt. Referenz: {payout_id}",
        ),
        "payout_failed": (
            "Eine Auszahlung war nicht möglich",
            "Ihre Auszahlung von {amount_text} war nicht möglich; der Betrag steht Ihnen weiter zu. Referenz:"
            " {payout_id}\n\nBitte prüfen Sie Ihre Auszahlungsart.",
        ),
        "payout_returned": (
            "Eine Auszahlung kam zurück",
            "Ihre Auszahlung von {amount_text} kam von Ihrer Bank zurück; der Betrag steht Ihnen wieder zu. Referenz:"
            " {payout_id}\n\nBitte prüfen Sie Ihre Auszahlungsart.",
        ),
        "dispute_answered": (
            "Ihr Einspruch wurde beantwortet",
            "Zu Ihrem Einspruch {dispute_id} gegen die Abrechnung für {period} gibt es eine Antwort.",
        ),
    },
    "pt": {
        "payout_method_proposed": (
            "O seu método de pagamento vai ser alterado",
            "Foi proposto para si um novo método de pagamento em {currency}: {method_name} (versão"
            " {method_version}).\nSó será usado depois da aprovação de uma segunda pessoa e de um prazo de espera.\n\n"
            "Se não pediu esta alteração, retire-a ou avise o programa imediatamente.",
        ),
        "payout_method_approved": (
            "O seu novo método de pagamento foi aprovado",
            "O novo método de pagamento em {currency} foi aprovado: {method_name} (versão {method_version}).\n"
            "Será usado a partir de {effective_text}.\n\n"
            "Se não pediu esta alteração, retire-a ou avise o programa antes dessa data.",
        ),
        "payout_method_rejected": (
            "O seu novo método de pagamento foi recusado",
            "O método de pagamento proposto em {currency} foi recusado: {method_name} (versão {method_version}).\n"
            "Nada muda.",
        ),
        "payout_method_withdrawn": (
            "A alteração do seu método de pagamento foi retirada",
            "A alteração do seu método de pagamento em {currency} foi retirada: {method_name} (versão"
            " {method_version}).\nNada muda.",
        ),
        "statement_issued": (
            "O seu extrato de {period}",
            "O seu extrato de {period} está disponível (versão {statement_version}).",
        ),
        "payout_initiated": (
            "Um pagamento está a caminho",
            "Um pagamento de {amount_text} está a caminho. Referência: {payout_id}",
        ),
        "payout_settled": (
            "Recebeu um pagamento",
            "O seu pagamento de {amount_text} foi executado pelo banco. Referência: {payout_id}",
        ),
        "payout_failed": (
            "Não foi possível fazer um pagamento",
            "Não foi possível fazer o seu pagamento de {amount_text}; o valor continua a ser-lhe devido. Referência:"
            " {payout_id}\n\nVerifique o seu método de pagamento.",
        ),
        "payout_returned": (
            "Um pagamento foi devolvido",
            "O seu pagamento de {amount_text} foi devolvido pelo seu banco; o valor volta a ser-lhe devido."
            " Referência: {payout_id}\n\nVerifique o seu método de pagamento.",
        ),
        "dispute_answered": (
            "A sua contestação foi respondida",
            "Há uma resposta à sua contestação {dispute_id} sobre o extrato de {period}.",
        ),
    },
    "ru": {
        "payout_method_proposed": (
            "Предложено изменить ваш способ выплаты",
            "Для вас предложен новый способ выплаты в {currency}: {method_name} (версия {method_version}).\n"
            "Он начнёт действовать после одобрения вторым сотрудником и срока ожидания.\n\n"
            "Если вы об этом не просили, отзовите изменение или сразу сообщите программе.",
        ),
        "payout_method_approved": (
            "Ваш новый способ выплаты одобрен",
            "Новый способ выплаты в {currency} одобрен: {method_name} (версия {method_version}).\n"
            "Начало действия: {effective_text}.\n\n"
            "Если вы об этом не просили, отзовите изменение или сообщите программе до этого срока.",
        ),
        "payout_method_rejected": (
            "Ваш новый способ выплаты отклонён",
            "Предложенный способ выплаты в {currency} отклонён: {method_name} (версия {method_version}).\n"
            "Ничего не меняется.",
        ),
        "payout_method_withdrawn": (
            "Изменение вашего способа выплаты отозвано",
            "Изменение вашего способа выплаты в {currency} отозвано: {method_name} (версия {method_version}).\n"
            "Ничего не меняется.",
        ),
        "statement_issued": (
            "Ваш отчёт за {period}",
            "Ваш отчёт за {period} готов (версия {statement_version}).",
        ),
        "payout_initiated": (
            "Выплата отправлена",
            "Выплата {amount_text} отправлена вам. Номер: {payout_id}",
        ),
        "payout_settled": (
            "Выплата произведена",
            "Банк исполнил вашу выплату {amount_text}. Номер: {payout_id}",
        ),
        "payout_failed": (
            "Выплата не состоялась",
            "Выплата {amount_text} не состоялась; сумма снова причитается вам. Номер: {payout_id}\n\n"
            "Пожалуйста, проверьте способ выплаты.",
        ),
        "payout_returned": (
            "Выплата вернулась",
            "Ваша выплата {amount_text} вернулась из банка; сумма снова причитается вам. Номер: {payout_id}\n\n"
            "Пожалуйста, проверьте способ выплаты.",
        ),
        "dispute_answered": (
            "На ваше возражение получен ответ",
            "Есть ответ на ваше возражение {dispute_id} к отчёту за {period}.",
        ),
    },
}
LANGUAGES = tuple(TEXTS)
